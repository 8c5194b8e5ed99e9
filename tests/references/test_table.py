"""What a method's draws are worth, and what is said of them."""

from __future__ import annotations

import os
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest

import vbayes as vb
from experiments.references.found import Errors, Found, outcome, row
from vbayes.runs.experiment import load

EXPERIMENT = Path(__file__).parents[2] / "experiments" / "posteriordb.py"
REFERENCE = {"a": np.array([[-1.0, 1.0], [-1.0, 1.0]]), "b": np.array([[8.0, 12.0], [8.0, 12.0]])}


def draws(a_mean=0.0, a_sd=1.0, b_mean=10.0, b_sd=2.0):
    two = np.array([-1.0, 1.0])
    return {"a": a_mean + a_sd * two, "b": b_mean + b_sd * two}


def test_errors_are_in_sds_of_the_reference():
    errors = Errors.of(draws(a_mean=-0.05, b_mean=10.4, a_sd=1.5, b_sd=1.0), REFERENCE)
    assert errors.mean == pytest.approx(0.2) and errors.sd == pytest.approx(0.5) and errors.where == ("b", "b")
    assert Errors.of(draws(a_sd=1.2, b_sd=1.9), REFERENCE).where[1] == "a"  # 1.2 is further from 1 than 0.95
    assert Errors.of(draws(b_mean=float("nan")), REFERENCE).where[0] == "b"  # what is no number is the worst


@pytest.mark.parametrize(
    "wrong, trust, wanted",
    [
        ({}, "good", "good"),
        ({}, "reweight", "good"),
        ({}, "", "good"),
        ({}, "bad", "falsely flagged"),
        ({"a_mean": 0.2}, "good", "silently bad"),
        ({"b_sd": 2.3}, "", "silently bad"),
        ({"b_sd": 1.7}, "reweight", "silently bad"),
        ({"a_mean": float("nan")}, "good", "silently bad"),
        ({"a_sd": 0.0}, "bad", "rightly flagged"),
        ({}, "failed", "failed"),
    ],
)
def test_outcomes(wrong, trust, wanted):
    assert outcome(Errors.of(draws(**wrong), REFERENCE), trust) == wanted


def table():
    rows = []
    for posterior, seconds, off in (("one-a", 1.0, 0.0), ("two-b", 3.0, 0.3)):
        for method, times, trust in (("no settings", 1.0, "bad" if off else "good"), ("NumPyro NUTS", 4.0, "")):
            found = Found(draws(a_mean=off), trust, times * seconds, 1.0, 100.0)
            rows.append(row(posterior, method, found, Errors.of(found.draws, REFERENCE)))
    return pd.DataFrame(rows)


def test_verdict_counts_and_figure_shows():
    with load(EXPERIMENT) as experiment:
        found = table()
        assert found.effective_per_second.iloc[0] == pytest.approx(50.0)
        said = experiment.verdict(found)
        assert said.startswith("Holds")
        assert "no settings: 1 good, 1 rightly flagged, 0 silently bad, 0 falsely flagged; 2.0 s" in said
        assert "NUTS: 1 good, 0 rightly flagged, 1 silently bad" in said and "0.25 × the time of NUTS" in said
        silent = found.assign(outcome=found.outcome.replace("rightly flagged", "silently bad"))
        assert experiment.verdict(silent).startswith("Fails here: silently bad: two-b.")
        drawn = experiment.figure(found)
        dots = drawn.axes[0].collections[0]  # of the first method: full, then hollow
        assert len(dots.get_facecolors()) == 2 and dots.get_facecolors()[0][3] == 1 and dots.get_facecolors()[1][3] == 0
        plt.close(drawn)
        assert experiment.shown(found).shape == (4, 8)


def test_what_there_is_not_is_said():
    with load(EXPERIMENT) as experiment:
        with pytest.raises(vb.errors.BadInput, match="nonsense: unknown. Wanted: of arK-arK"):
            experiment.measure(**experiment.settings(quick=True, given={"posteriors": "nonsense"}))


@pytest.mark.skipif(not os.environ.get("VBAYES_DATA"), reason="set VBAYES_DATA to a folder with posteriordb/")
def test_a_method_that_refuses_or_breaks_has_a_row(monkeypatch):
    """It does not end the others. What is refused in words is no silent failure."""
    given = {"posteriors": "sblrc-blr", "methods": "no settings"}

    def fails(error):
        def method(*_, **__):
            raise error

        return method

    with load(EXPERIMENT) as experiment:
        import references.by_vbayes

        settings = {**experiment.settings(quick=True, given={}), **{k: [v] for k, v in given.items()}}
        rows = []
        for error in (vb.errors.Unsuitable("no mode"), ValueError("a bug")):
            monkeypatch.setattr(references.by_vbayes, "no_settings", fails(error))
            rows.append(experiment.measure(**settings).iloc[0])
        broken = experiment.verdict(pd.DataFrame(rows[1:]))
    assert [row.outcome for row in rows] == ["rightly flagged", "failed"]
    assert [row.says for row in rows] == ["Unsuitable: no mode", "ValueError: a bug"]
    assert broken.startswith("Fails here: failed: sblrc-blr")
