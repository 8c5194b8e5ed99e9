"""Interactive pages, each one self-contained file."""
