"""Checks of arguments: one file for each kind, and `takes`, by which every public function checks its own."""
