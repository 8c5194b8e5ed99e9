"""Estimators measured side by side: bias, variance, cost, and which of them to use."""
