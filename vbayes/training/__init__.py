"""Fitting a pair: the engines that take steps, the loop that drives them, and the results."""
