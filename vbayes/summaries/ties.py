"""When two numbers with errors are called equal."""

from __future__ import annotations

import numpy as np
import pandas as pd
from scipy import stats

TIE = 2.0  # standard errors within which two numbers are called equal


def ties(rows: pd.DataFrame, at: str, group: str) -> list[str]:
    """The reference and those that can't be told from it by variance × time, from `differences`, in their order."""
    here = rows[(rows["at"] == at) & (rows.group == group)]
    ratio, se = here.variance_time_ratio.to_numpy(float), here.variance_time_ratio_se.to_numpy(float)
    with np.errstate(divide="ignore", invalid="ignore"):  # where one of the two has no noise
        near = np.abs(np.log(ratio)) <= TIE * se / ratio  # on this scale one slow round does not make everything equal
    return list(here.estimator[near])


def chance(seeds: int) -> float:
    """Standard errors, of so many seeds, that chance exceeds as rarely as `TIE` where there are many: Student's t."""
    return float(stats.t.ppf(stats.norm.cdf(TIE), seeds - 1)) if seeds > 1 else 0.0
