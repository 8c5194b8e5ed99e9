"""Is a fit to be believed: has it converged, and what is its guide worth."""
