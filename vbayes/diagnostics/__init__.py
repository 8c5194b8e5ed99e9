"""Can a fit be trusted: has it converged, and how good is its guide?"""
