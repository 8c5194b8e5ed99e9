"""Experiments: a question, its measurement, and the folder in which the answer is kept."""
