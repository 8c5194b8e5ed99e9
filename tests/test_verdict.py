"""The paragraph says what the table says."""

from __future__ import annotations

import vbayes as vb
from tests.comparison_table import VARIANCE, made
from vbayes.verdict import verdict


def test_it_names_the_winner_its_lead_and_where_it_changes():
    text = made().verdict()
    assert text.startswith("At the end, stl gives the least gradient noise per second: analytic_kl needs 4.7× the time")
    assert "score needs 233,333× the time" in text
    assert "At the start analytic_kl is better: stl needs 1.6× its time there." in text
    assert "1.8× at the start, 4× at the middle and 10× at the end" in text
    assert "No estimator shows bias: the largest |z| of 48 tests is 0.7" in text


def test_ties_are_called_ties():
    table = made().to_dataframe()
    mask = (table["at"] == "end") & (table.estimator == "analytic_kl")
    table.loc[mask, "variance_time"] = VARIANCE["stl"][2] * 3.0 * 1.01
    assert "stl and analytic_kl can't be told apart" in verdict(table)


def test_bias_is_an_alarm():
    table = made().to_dataframe()
    table.loc[table.estimator == "pathwise", "bias_z"] = -9.0
    assert "Biased here: pathwise (|z| up to 9.0" in verdict(table) and "No estimator shows bias" not in verdict(table)


def test_one_estimator_at_one_point():
    table = made().to_dataframe()
    text = verdict(table[(table.estimator == "stl") & (table["at"] == "end")])
    assert text.startswith("Only stl was measured")


def test_no_noise_at_all():
    table = made().to_dataframe()
    table.loc[table.estimator == "stl", ["variance", "variance_time", "variance_se", "variance_time_se"]] = 0.0
    assert "pathwise needs infinitely many times" in verdict(table)


def test_a_comparison_survives_its_file(tmp_path):
    result = made(snr=float("nan"))
    again = vb.Comparison.load(result.save(tmp_path / "comparison.json"))
    assert again.to_dataframe().equals(result.to_dataframe()) and again.points == result.points
