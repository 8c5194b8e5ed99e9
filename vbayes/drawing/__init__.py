"""The one part that asks Pyro's handlers; what comes out is tensors."""
