"""Variational Bayes on Pyro."""

__version__ = "0.1.0"
