"""The paragraph says what the table says."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest

import vbayes as vb
from tests.comparison_table import MS, VARIANCE, made
from vbayes.laboratory.comparison import Comparison


def changed(result: Comparison, estimator: str, at: str | None = None, **columns) -> Comparison:
    """With other numbers in the rows of one estimator."""
    rows = [
        {**row, **columns} if row["estimator"] == estimator and at in (None, row["at"]) else row for row in result.rows
    ]
    return replace(result, rows=tuple(rows))


def test_it_names_the_winner_its_lead_and_where_it_changes():
    text = made().verdict()
    assert text.startswith("At the end, stl gives the least gradient noise per second: analytic_kl needs 4.7× the time")
    assert "score needs 233,333× the time" in text
    assert "At the start analytic_kl is better: stl needs 1.6× its time there." in text
    assert "1.8× at the start, 4× at the middle and 10× at the end" in text
    assert "No estimator shows bias: the largest |z| of 48 tests is 0.7" in text


def test_ties_are_called_ties():
    stl = VARIANCE["stl"][2]
    variance = stl * MS["stl"] / MS["analytic_kl"] * 1.01
    # The draws in common go up and down together; 1 % is within what the clock can tell.
    tied = changed(
        made(), "analytic_kl", "end", variance=variance, variance_time=variance * MS["analytic_kl"],
        variances_without=[variance * (1 + 0.0006 * (b % 7 - 3)) for b in range(50)],
    )  # fmt: skip
    assert "stl and analytic_kl can't be distinguished" in tied.verdict()


def test_the_error_of_a_ratio_is_that_of_pairs():
    rows = made().differences("stl").query("at == 'end' and group == 'all'").set_index("estimator")
    assert rows.variance_ratio["analytic_kl"] == pytest.approx(7.0)
    assert rows.variance_ratio_se["analytic_kl"] < 1e-9 < rows.unpaired_se["analytic_kl"]
    assert rows.variance_time_ratio["stl"] == 1.0 and rows.variance_time_ratio_se["stl"] == 0.0
    with pytest.raises(vb.errors.BadInput, match="reference='other' was not compared"):
        made().differences("other")


def test_bias_is_an_alarm():
    text = changed(made(), "pathwise", bias_z=-9.0).verdict()
    assert "Biased here: pathwise (|z| up to 9.0" in text and "No estimator shows bias" not in text


def test_what_is_biased_is_not_recommended():
    result = changed(made(), "stl", bias_z=9.0)
    text = result.verdict()
    assert result.best() == "analytic_kl" and "Use analytic_kl here." in text and "stl gives" not in text
    assert text.startswith("At the end, analytic_kl gives the least gradient noise per second: pathwise needs 1.4×")
    assert "Biased here: stl" in text
    assert result.differences().query("estimator == 'analytic_kl'").variance_ratio.eq(1.0).all()
    one = result
    for name in ("score", "pathwise"):
        one = changed(one, name, bias_z=9.0)
    assert one.verdict().startswith("At the end, only analytic_kl shows no bias")
    every = changed(one, "analytic_kl", bias_z=9.0)
    assert every.best() == "stl" and "Use" not in every.verdict(), "all are biased"


def test_only_estimators_of_one_bound_compete():
    result = changed(
        changed(made(), "stl", bound="Rényi bound of 5 particles"), "score", bound="RenyiELBO of 5 particles"
    )
    text = result.verdict()
    assert result.best() == "analytic_kl" and "stl needs" not in text and "score needs" not in text
    assert "Among estimators of the Rényi bound of 5 particles, at the end, only stl was measured" in text
    assert "Among estimators of the RenyiELBO of 5 particles, at the end, only score was measured" in text


def test_ties_of_the_best():
    assert made().ties() == ("stl",)
    variance = VARIANCE["stl"][2]
    same = changed(
        made(), "analytic_kl", "end", variance=variance * MS["stl"] / MS["analytic_kl"],
        variance_time=variance * MS["stl"], variances_without=[variance * 1.5 * (1 + 0.001 * (b % 3 - 1)) for b in range(50)],
    )  # fmt: skip
    assert set(same.ties()) == {"stl", "analytic_kl"}


def test_what_can_not_be_judged_is_not_called_unbiased():
    text = made(bias_resolution=9e6).verdict()
    assert (
        "No estimator shows bias" not in text and "Can't judge the bias of score, pathwise, analytic_kl and stl" in text
    )
    one = changed(made(), "stl", bias_resolution=100.0).verdict()
    assert "No estimator shows bias" in one and "Can't judge the bias of stl at start, middle and end" in one


def test_an_estimator_that_is_its_own_oracle_is_not_judged():
    text = changed(made(), "analytic_kl", bias_z=float("nan")).verdict()
    assert "the largest |z| of 36 tests" in text


def test_one_estimator_at_one_point():
    result = made()
    rows = [row for row in result.rows if row["estimator"] == "stl" and row["at"] == "end"]
    assert (
        replace(result, rows=tuple(rows), estimators=("stl",)).verdict().startswith("At the end, only stl was measured")
    )


def test_no_noise_at_all():
    none = changed(made(), "stl", variance=0.0, variance_time=0.0, variance_se=0.0, variance_time_se=0.0)
    assert "At the end, stl has no noise at all. Use stl here." in none.verdict()
    none = none.differences("stl").query("group == 'all' and estimator == 'stl'")
    assert none.variance_ratio.eq(1.0).all()


def test_two_without_noise_are_equal():
    quiet = {"variance": 0.0, "variance_time": 0.0, "variance_se": 0.0, "variance_time_se": 0.0}
    both = changed(changed(made(), "stl", **quiet), "analytic_kl", **quiet)
    row = both.differences("stl").query("at == 'end' and group == 'all' and estimator == 'analytic_kl'").iloc[0]
    assert row.variance_ratio == row.variance_time_ratio == 1.0
    assert row.variance_ratio_se == row.variance_time_ratio_se == row.unpaired_se == 0.0
    assert "have no noise at all. Use " in both.verdict()


def test_a_comparison_survives_its_file(tmp_path):
    result = made(snr=float("nan"))
    again = vb.Comparison.load(result.save(tmp_path / "comparison.json"))
    assert again.to_dataframe().equals(result.to_dataframe()) and again.points == result.points
    assert again.differences().equals(result.differences()) and again.verdict() == result.verdict()


def test_an_infinite_alarm_survives_its_file(tmp_path):
    result = changed(changed(made(), "stl", bias_z=-math.inf), "pathwise", snr=math.inf, bias_z=math.nan)
    again = vb.Comparison.load(result.save(tmp_path / "comparison.json"))
    assert again.to_dataframe().equals(result.to_dataframe()) and "Biased here: stl (|z| up to inf" in again.verdict()


def test_it_marks_what_is_not_compiled():
    """Where others are; a table of old does not say."""
    why = "Pair 'toy' can't be captured, at line 3: it reads a value."
    mixed = changed(changed(made(), "stl", captured=f"{why}\nMore of it."), "score", captured="yes")
    assert (
        f"Not compiled: stl, whose time is that of Pyro, not of a compiled program as for the other. {why} "
        in mixed.verdict()
    )
    assert "Not compiled" not in made().verdict()
    assert "Not compiled" not in changed(made(), "stl", captured=why).verdict()
