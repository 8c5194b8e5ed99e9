"""Posteriors of which draws are known, their models in Pyro and NumPyro, and ways to fit them, for measuring vbayes against them."""
