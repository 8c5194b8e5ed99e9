"""The same programs in Pyro, NumPyro and hand-written PyTorch, for measuring vbayes against them."""
