"""Which rows of a table estimate the same thing."""

from __future__ import annotations

import pandas as pd


def bound_column(table: pd.DataFrame) -> pd.Series:
    """What the estimator of each row estimates; only gradients of the same bound compete."""
    several = table.bound + " bound of " + table.num_particles.astype(str) + " particles"
    return table.bound.where(table.bound == "ELBO", several)


def bounds(table: pd.DataFrame) -> list[str]:
    """Those in a table; the ELBO first, then in the order of the rows."""
    return sorted(dict.fromkeys(bound_column(table)), key=lambda bound: bound != "ELBO")
