"""What Bayesian learning asks of a model: evidence, posterior, what is missing, which model."""
