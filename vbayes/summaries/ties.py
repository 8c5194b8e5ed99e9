"""Decides when two numbers with errors count as equal."""

from __future__ import annotations

import numpy as np
import pandas as pd
from scipy import stats

TIE = 2.0  # standard errors within which two numbers count as equal
FEWEST = 3  # minimum number of seeds: with two, the standard error is so uncertain that a difference of 14 of them may be chance


def ties(rows: pd.DataFrame, at: str, group: str) -> list[str]:
    """The reference and the estimators that can't be distinguished from it by variance × time, from `differences`, in their order."""
    here = rows[(rows["at"] == at) & (rows.group == group)]
    ratio, se = here.variance_time_ratio.to_numpy(float), here.variance_time_ratio_se.to_numpy(float)
    with np.errstate(divide="ignore", invalid="ignore"):  # if one of the two has no noise
        near = (
            np.abs(np.log(ratio)) <= TIE * se / ratio
        )  # on a logarithmic scale, a single slow round does not make everything equal
    return list(here.estimator[near])


def chance(seeds: int) -> float:
    """The number of standard errors that, for this number of seeds, chance exceeds as rarely as `TIE` for many seeds, by Student's t; 0 for two or fewer seeds, which are not enough (see `too_few`)."""
    return float(stats.t.ppf(stats.norm.cdf(TIE), seeds - 1)) if seeds >= FEWEST else 0.0


def too_few(seeds: int) -> str:
    """What to do if there are too few seeds to separate differences from chance; empty otherwise."""
    if seeds >= FEWEST:
        return ""
    return f"With {'one seed' if seeds == 1 else 'two seeds'}, it is unknown how much of this is chance; seeds=5 would tell."
