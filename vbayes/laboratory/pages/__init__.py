"""Pages to play with: each one file, with all that it shows in it."""
