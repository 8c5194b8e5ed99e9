"""What is handed in: one file for each kind of argument, and `takes`, by which every public verb checks its own."""
