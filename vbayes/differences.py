"""Ratios of variances between estimators that saw the same noise."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from .errors import BadInput

if TYPE_CHECKING:
    from .comparison import Comparison


def differences(result: Comparison, reference: str) -> pd.DataFrame:
    """See `Comparison.differences`."""
    if reference not in result.estimators:
        raise BadInput(f"reference={reference!r} was not compared. Wanted: one of {', '.join(result.estimators)}.")
    others = {(row["at"], row["group"]): row for row in result.rows if row["estimator"] == reference}
    return pd.DataFrame([_ratio(row, others[row["at"], row["group"]]) for row in result.rows])


def _ratio(row: dict[str, Any], other: dict[str, Any]) -> dict[str, Any]:
    same = row["estimator"] == other["estimator"]
    variance, by = row["variance"], other["variance"]
    value = variance / by if by > 0 else 1.0 if same else math.inf
    se = unpaired = math.nan
    if by > 0 and variance > 0:
        without = np.divide(*(np.asarray(r["variances_without"]) for r in (row, other)))
        se = math.sqrt((len(without) - 1) * np.var(without))  # the jackknife's
        unpaired = value * math.hypot(row["variance_se"] / variance, other["variance_se"] / by)
    time = row["ms_per_gradient"] / other["ms_per_gradient"]
    times = 0.0 if same else math.hypot(*(r["ms_se"] / r["ms_per_gradient"] for r in (row, other)))
    return {
        "at": row["at"],
        "estimator": row["estimator"],
        "group": row["group"],
        "variance_ratio": value,
        "variance_ratio_se": se,
        "unpaired_se": unpaired,
        "variance_time_ratio": value * time,
        "variance_time_ratio_se": math.hypot(se * time, value * time * times),
    }
