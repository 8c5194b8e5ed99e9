"""Compares estimators: bias, variance and cost, and which one to use."""
