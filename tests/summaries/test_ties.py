"""When two estimators are called equal."""

from __future__ import annotations

import math

import pandas as pd
import pytest

from vbayes.summaries.ties import ties


@pytest.mark.parametrize(
    ("ratio", "se", "equal"),
    [(1.0, 0.0, True), (1.2, 0.15, True), (1.5, 0.15, False), (0.8, 0.15, True), (0.0, 0.0, False), (math.inf, math.nan, False),
     (1384.0, 2589.0, False)],
)  # fmt: skip
def test_a_tie(ratio, se, equal):
    """The last: one slow round among six made an estimator of a thousand times the noise equal to the best."""
    rows = pd.DataFrame({"at": ["end"] * 2, "group": ["all"] * 2, "estimator": ["best", "other"], "variance_time_ratio": [1.0, ratio],
                         "variance_time_ratio_se": [0.0, se]})  # fmt: skip
    assert ties(rows, "end", "all") == ["best", "other"][: 1 + equal]


def test_noise_of_times_does_not_hide_a_variance_of_a_hundred_times():
    """Also where a limit for several estimators is wider: times on a busy machine, with errors of twice their size."""
    names = ["best", "other", "third", "fourth"]
    rows = pd.DataFrame({"at": "end", "group": "all", "estimator": names, "variance_time_ratio": [1.0, 140.0, 3.0, 3.0],
                         "variance_time_ratio_se": [0.0, 300.0, 6.0, 0.3]})  # fmt: skip
    assert ties(rows, "end", "all") == ["best", "third"]
