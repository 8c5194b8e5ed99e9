"""Ranks of which it is known where they are from."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from vbayes.summaries.rank_tests import band, histogram_edges, ordered, rank_tests, rank_verdict

DRAWS, COUNT = 99, 400


def ranks(mean: float = 0.0, sd: float = 1.0, count: int = COUNT) -> np.ndarray:
    """Of a truth from N(mean, sd²) among draws of N(0, 1): deterministic, at evenly spaced quantiles."""
    truth = stats.norm.ppf((np.arange(count) + 0.5) / count) * sd + mean
    return np.floor(stats.norm.cdf(truth) * (DRAWS + 1)).astype(int)


def only_row(**own: float):
    return rank_tests({"a": ranks(**own)}, DRAWS).iloc[0]


def test_what_is_uniform_is_calibrated():
    row = only_row()
    assert abs(row.bias) < 1e-6 and row.spread == pytest.approx(1, abs=0.01) and row.said == ""
    assert min(row.bias_p, row.spread_p, row.shape_p) > 0.5
    assert row.bias_se == pytest.approx(COUNT**-0.5, rel=0.02) and row.spread_se == pytest.approx(
        (2 * COUNT) ** -0.5, rel=0.05
    )


@pytest.mark.parametrize(
    "own, said",
    [
        ({"mean": 0.3}, "biased downwards"),
        ({"mean": -0.3}, "biased upwards"),
        ({"sd": 1.5}, "under-dispersed"),
        ({"sd": 0.6}, "over-dispersed"),
        ({"mean": 0.5, "sd": 0.5}, "biased downwards, over-dispersed"),
    ],
)
def test_what_is_off_is_named_with_its_size(own, said):
    row = only_row(**own)
    assert row.said == said
    assert row.bias == pytest.approx(-own.get("mean", 0.0), abs=0.02)
    assert row.spread == pytest.approx(own.get("sd", 1.0), rel=0.1)  # the highest rank is as far as S draws see


def test_two_peaks_have_another_shape():
    """Of the right mean and variance."""
    scores = stats.norm.ppf((np.arange(DRAWS + 1) + 0.5) / (DRAWS + 1))
    at = int(np.argmin(abs(scores - 0.97)))
    row = rank_tests({"a": np.repeat([at, DRAWS - at], COUNT // 2)}, DRAWS).iloc[0]
    assert row.said == "of a different shape" and row.shape_p < 1e-10 and abs(row.spread - 1) < 0.05


def test_many_parameters_alarm_no_more_often_than_one():
    """A level for all tests together: of 50 calibrated tables with 20 parameters, half would have an alarm at 1 % each."""
    generator = np.random.default_rng(0)
    alarms = 0
    for _ in range(50):
        made = {str(i): generator.integers(0, DRAWS + 1, 100) for i in range(20)}
        alarms += bool(rank_tests(made, DRAWS).said.any())
    assert alarms <= 4  # expected: half a table; P(more than 4) < 2e-4


def test_few_ranks_have_no_histogram():
    table = rank_tests({"a": np.array([3, 70])}, DRAWS)
    assert np.isnan(table.shape_p[0]) and np.isfinite(table.bias_p[0]) and table.said[0] == ""
    same = rank_tests({"a": np.array([99, 99, 99])}, DRAWS).iloc[0]
    assert same.said == "biased downwards, over-dispersed" and same.bias_p == 0


def test_the_verdict_names_the_worst_and_what_was_quiet():
    table = rank_tests({"a": ranks(), "b": ranks(sd=2.0), "c": ranks(mean=0.4)}, DRAWS)
    said = rank_verdict(table, COUNT, 2)
    assert said.startswith(f"Not calibrated over {COUNT} data sets: b is under-dispersed: the true values spread 1.7")
    assert "c is biased downwards: q lies 0.4" in said and "below the true value" in said
    assert "No deviation was found in a." in said and "2 more fits became NaN or infinite" in said
    assert ordered(table, ["a", "b", "c"]) == ["b", "c", "a"]
    quiet = rank_verdict(table[:1], COUNT, 0)
    assert quiet.startswith("Calibrated, as far as") and "left" not in quiet


def test_bins_are_even_and_their_band_holds():
    assert histogram_edges(99, 10).tolist() == [i * 10 - 0.5 for i in range(11)]
    assert np.diff(histogram_edges(100, 10)).sum() == 101
    low, high = band(400, 0.1)
    inside = stats.binom.cdf(high, 400, 0.1) - stats.binom.cdf(low - 1, 400, 0.1)
    assert low < 40 < high and inside >= 0.99
