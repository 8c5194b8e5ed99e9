"""Posteriors with known reference draws, their models in Pyro and NumPyro, and methods to fit them, to test vbayes against."""
