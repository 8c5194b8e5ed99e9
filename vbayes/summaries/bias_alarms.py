"""Selects rows of a comparison's table: those that show bias, those of the same bound, and those of the last point."""

from __future__ import annotations

import pandas as pd

from .joint import joint_limit

FALSE_ALARM = 0.01  # probability that a table without bias is called biased


def alarm_limit(table: pd.DataFrame) -> float:
    """The |z| above which a row counts as biased, with a probability of at most 1 % for any false alarm over all rows."""
    return joint_limit(int(table.bias_z.notna().sum()), level=FALSE_ALARM)


def alarmed(table: pd.DataFrame) -> list[str]:
    """Names of the estimators that show bias anywhere in a whole table, in alphabetical order."""
    return sorted(set(table.estimator[table.bias_z.abs() > alarm_limit(table)]))


def trusted(table: pd.DataFrame) -> pd.DataFrame:
    """The rows of estimators that show no bias, or all rows of a bound if every estimator of it does."""
    biased = table.estimator.isin(alarmed(table))
    hopeless = biased.groupby(table.bound).transform("all")
    return table[~biased | hopeless]


def bounds(table: pd.DataFrame) -> list[str]:
    """The bounds in a table, the ELBO first; only gradients of the same bound are compared."""
    return sorted(dict.fromkeys(table.bound), key=lambda bound: bound != "ELBO")


def at_one_point(table: pd.DataFrame, at: str | None) -> pd.DataFrame:
    """The rows of one point of training, or of the last one for each value of the first column, which may have other names."""
    last = table.groupby(table.columns[0])["at"].transform("last")
    return table[table["at"] == (last if at is None else at)]
