"""Draws from guides and models: the only part that uses Pyro's handlers; its results are tensors."""
