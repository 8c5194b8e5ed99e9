"""Experiments: a question, its measurement, and the folder with the answer."""
