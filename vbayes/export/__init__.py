"""To ArviZ and to files that other tools open."""
