"""Bayesian inference with a model: evidence, posterior, missing data, predictions and model comparison."""
