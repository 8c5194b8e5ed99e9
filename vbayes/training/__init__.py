"""Fitting a pair: what takes the steps, how it is driven, and what comes back."""
