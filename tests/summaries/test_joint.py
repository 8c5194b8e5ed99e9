"""How often verdicts about several numbers raise a false alarm: the shares of 2000 simulated cases without any difference, against the stated ones."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from vbayes.summaries.bias_alarms import FALSE_ALARM, alarmed
from vbayes.summaries.differences import differences
from vbayes.summaries.joint import LEVEL, joint_limit
from vbayes.summaries.ties import tied, ties

CASES = 2000


def error(share: float) -> float:
    """Four standard errors of a share of the cases."""
    return 4 * (share * (1 - share) / CASES) ** 0.5


def draws(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).standard_normal((CASES, *shape))


@pytest.mark.parametrize("tests", [1, 5, 50])
@pytest.mark.parametrize("level", [LEVEL, FALSE_ALARM])
def test_the_largest_of_several_is_too_large_as_often_as_stated(tests, level):
    """For independent components exactly; two standard errors are exceeded by one of five in 21 % of cases."""
    z = np.abs(draws(tests)).max(1)
    assert abs((z > joint_limit(tests, level=level)).mean() - level) < error(level)
    assert joint_limit(1, level=2 * stats.norm.sf(2)) == pytest.approx(2)
    plain = 1 - (1 - 2 * stats.norm.sf(2)) ** tests
    assert abs((z > 2).mean() - plain) < error(plain) + 1e-12


@pytest.mark.parametrize("correlation", [0.5, 0.99])
def test_of_correlated_ones_it_is_less_often(correlation):
    z = np.sqrt(correlation) * draws(6)[:, :1] + np.sqrt(1 - correlation) * draws(6)[:, 1:]
    assert 0.005 < (np.abs(z).max(1) > joint_limit(5)).mean() < LEVEL + error(LEVEL)


@pytest.mark.parametrize("replicas", [3, 5, 20])
def test_few_replicas_have_students_t(replicas):
    x = draws(5, replicas)
    t = np.abs(x.mean(-1)) / x.std(-1, ddof=1) * replicas**0.5
    assert abs((t.max(1) > joint_limit(5, freedom=replicas - 1)).mean() - LEVEL) < error(LEVEL)


@pytest.mark.parametrize(("count", "seeds"), [(2, 3), (5, 3), (5, 10)])
def test_equal_estimators_are_seldom_called_worse_than_the_best_of_them(count, seeds):
    """By as many seeds; a limit of two standard errors, as Student's t has it, calls one of five worse in 24 % of races."""
    worse, plain = 0, stats.t.ppf(stats.norm.cdf(2), seeds - 1)
    by_two = 0
    for values in draws(seeds, count):
        gaps = values[:, [values.mean(0).argmax()]] - values
        gaps = {str(i): pd.Series(gap) for i, gap in enumerate(gaps.T) if gap.any()}
        worse += len(tied(gaps)) < len(gaps)
        by_two += any(gap.mean() > plain * gap.sem() for gap in gaps.values())
    assert 0.3 * LEVEL < worse / CASES < LEVEL + error(LEVEL)
    assert by_two / CASES > (0.03 if count == 2 else 0.2)


@pytest.mark.parametrize("count", [2, 5])
def test_equal_variances_are_seldom_told_apart(count):
    """From 50 blocks of draws each, as in `vb.compare`."""
    told = 0
    for sums in draws(count, 50)[:500]:
        blocks = 1 + 0.2 * sums
        rows = [
            {"at": "end", "group": "all", "estimator": str(i), "variance": own.mean(), "variance_se": own.std(ddof=1) / 50**0.5, "ms_per_gradient": 1.0, "ms_se": 0.0,
             "variances_without": (own.sum() - own) / 49}
            for i, own in enumerate(blocks)
        ]  # fmt: skip
        best = min(rows, key=lambda row: row["variance"])["estimator"]
        told += len(ties(differences(rows, best), "end", "all")) < count
    assert 0.3 * LEVEL < told / 500 < LEVEL + 2 * error(LEVEL)


def test_a_table_without_bias_is_seldom_called_biased():
    names = [str(i) for i in range(20)]
    found = [bool(alarmed(pd.DataFrame({"estimator": names, "bias_z": z}))) for z in draws(20)]
    assert abs(np.mean(found) - FALSE_ALARM) < error(FALSE_ALARM)
