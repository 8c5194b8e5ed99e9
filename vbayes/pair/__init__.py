"""Pairs of model and guide: their parameters, their sites, and the checks before they are used."""
