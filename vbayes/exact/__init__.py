"""Closed-form truth: tensors in, tensors out."""
