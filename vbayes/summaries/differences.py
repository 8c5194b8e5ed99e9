"""Ratios of variances between estimators with the same base noise."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from ..errors import BadInput


def differences(rows: Sequence[Mapping[str, Any]], reference: str) -> pd.DataFrame:
    """Computes `Comparison.differences` from the rows of a comparison.

    Raises:
        BadInput: They have no such estimator.
    """
    estimators = list(dict.fromkeys(row["estimator"] for row in rows))
    if reference not in estimators:
        raise BadInput(f"reference={reference!r} was not compared. Wanted: one of {', '.join(estimators)}.")
    others = {(row["at"], row["group"]): row for row in rows if row["estimator"] == reference}
    return pd.DataFrame([_ratio(row, others[row["at"], row["group"]]) for row in rows])


def _ratio(row: Mapping[str, Any], other: Mapping[str, Any]) -> dict[str, Any]:
    value, se = cost_ratio(row, other, timed=False)
    times, times_se = cost_ratio(row, other)
    by = other["variance"]
    unpaired = math.hypot(row["variance_se"], value * other["variance_se"]) / by if by > 0 else se
    return {
        "at": row["at"],
        "estimator": row["estimator"],
        "group": row["group"],
        "variance_ratio": value,
        "variance_ratio_se": se,
        "unpaired_se": unpaired,
        "variance_time_ratio": times,
        "variance_time_ratio_se": times_se,
    }


def cost_ratio(
    row: Mapping[str, Any], other: Mapping[str, Any], common: float = 0.0, *, timed: bool = True
) -> tuple[float, float]:
    """The ratio of (variance + common) × time between two rows of a bench, and its standard error, from leaving the same block out of both.

    Two rows without any noise are equal, and infinitely better than one with noise.

    Args:
        common: Further variance of both, such as that of the minibatch.
        timed: Whether to include time.
    """
    variance, by = row["variance"] + common, other["variance"] + common
    if row["estimator"] == other["estimator"] or variance == by == 0.0:
        return 1.0, 0.0
    if by == 0.0:
        return math.inf, math.nan
    without = np.divide(*(np.asarray(r["variances_without"]) + common for r in (row, other)))
    value, se = variance / by, math.sqrt((len(without) - 1) * np.var(without))  # the jackknife variance
    if not timed:
        return value, se
    time = row["ms_per_gradient"] / other["ms_per_gradient"]
    time_se = time * math.hypot(*(r["ms_se"] / r["ms_per_gradient"] for r in (row, other)))
    return value * time, math.hypot(se * time, value * time_se)
