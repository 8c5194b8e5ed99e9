"""The course's experiments: each holds in a small setting, draws what it has, and says so where a part of the library is sabotaged that its claim rests on."""

from __future__ import annotations

import math
from pathlib import Path

import matplotlib.pyplot as plt
import pandas as pd
import pytest
import torch

import vbayes as vb
from tests.course.adversary import fooled
from tests.course.cases import CASES
from tests.course.sabotage import Course
from vbayes.runs.experiment import find, load

COURSE = Path(__file__).parents[2] / "experiments" / "course"
SECONDS = ("01", "02", "03", "04", "05", "08", "09", "11", "13", "14", "15", "16", "17", "18")
"""What takes more than half a second; the others show quickly that a verdict can be turned."""
ELSEWHERE = ("06_long_chains", "06_point_or_posterior")  # sabotaged in test_controls.py


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.slow if name.startswith(SECONDS) else ()) for name in CASES]
)
def test_a_sabotage_turns_the_verdict(name):
    case = CASES[name]
    with load(COURSE / f"{name}.py") as experiment:
        course = Course(experiment, case)
        assert course.sound.startswith("Holds"), course.sound
        drawn(experiment, course.table)
        assert not list(fooled(experiment, course.table, course.sound))
        for what, sabotage in case.sabotages.items():
            found = course.under(sabotage)
            assert sabotage.turns(course.sound, found), f"{what}: {found}"


def drawn(experiment: vb.Experiment, table: pd.DataFrame) -> None:
    assert set(experiment.quick) <= set(experiment.full) and experiment.question.endswith("?")
    assert len(experiment.shown(table)) >= 1
    drawing = experiment.figure(table)
    drawing.canvas.draw()
    plt.close(drawing)


def test_every_claim_has_its_experiment_and_every_experiment_its_sabotage():
    names = {path.stem for path in find(COURSE)}
    assert names == {*CASES, *ELSEWHERE} and all(case.sabotages for case in CASES.values())
    assert {int(name[:2]) for name in names} == set(range(1, 19))


def test_one_repeat_cannot_tell():
    spaces = {"latent space, 2-D": 0.9, "PCA, 2-D": 0.5, "pixels": 0.95}
    table = pd.DataFrame({"space": list(spaces), "seed": 0, "accuracy": list(spaces.values()), "generated": 0.8})
    with load(COURSE / "16_latent_space_is_interpretable.py") as experiment:
        assert experiment.verdict(table).startswith("Can't tell (more are told right than by PCA; and more than half; ")


def test_a_busy_machine_cannot_tell_whose_time_is_shorter():
    looks = {("AEVB", 100): 2.0, ("AEVB", 2000): 30.0, ("wake-sleep", 100): 2.0, ("Monte Carlo EM", 100): 100.0}
    leads = {("AEVB", 2000): 3.0, ("Monte Carlo EM", 100): 1.0}
    table = pd.DataFrame(
        {"rows": 10, "method": method, "samples": samples, "seconds": seconds, "part": "held out", "datum": datum, "log_p": leads.get((method, samples), 0.0) + datum % 3 * seconds / 1e3}
        for (method, samples), seconds in looks.items()
        for datum in range(10)
    )  # fmt: skip
    with load(COURSE / "15_marginal_likelihood_small_data.py") as experiment:
        say = experiment.verdict
        assert say(table).startswith("Holds within bounds (not: it is ahead sample for sample)")
        slow, quick = (table.assign(seconds=table.seconds.replace(100.0, theirs)) for theirs in (1.0, 35.0))
        assert say(slow).startswith("Can't tell (it is ahead of Monte Carlo EM for the same time)")
        assert say(quick).startswith("Can't tell (it is ahead of Monte Carlo EM for the same time)")
        early = table.assign(seconds=table.seconds.replace(100.0, 12.0))
        assert say(early).startswith("Fails here (it is ahead of Monte Carlo EM for the same time)")


def test_an_explanation_is_given_where_the_numbers_say_so():
    """That errors of the likelihood and of a sampled KL cancel where q is near the posterior."""
    table = pd.DataFrame(
        {"epochs": [0, 60], "kl_per_datum": [1.0, 9.0], "gap": [20.0, 1.0], "largest_difference": 0.0, "sampled_off": 0.0, "sampled_se": 0.01, "variance_analytic": 1.0, "variance_sampled": [2.0, 0.2], "variance_se": 0.01}
    )  # fmt: skip
    with load(COURSE / "14_analytic_kl_helps.py") as experiment:
        assert "their errors cancel:" in experiment.verdict(table)
        assert "is not seen from these numbers" in experiment.verdict(table.assign(gap=20.0))
        assert experiment.verdict(table.assign(variance_sampled=2.0)).startswith("Holds: ")


def test_an_error_that_no_draw_shows_is_taken_in_closed_form(monkeypatch):
    with load(COURSE / "12_reparameterisation_needs_few_samples.py") as experiment:
        monkeypatch.setitem(experiment.measure.__globals__, "TRUTH", 1000)
        with torch.random.fork_rng():
            torch.manual_seed(0)
            table = experiment.measure(dimensions=[30], per_dimension=[5], repeats=20)
        rare = table[table.f == "all z > 0"]
        assert rare.error.isna().all() and rare.exact.tolist() == pytest.approx([((2**30 - 1) / 150) ** 0.5] * 2)
        assert "all z > 0: 2.7e+03" in experiment.verdict(table)
        plt.close(experiment.figure(table))


def test_the_best_product_on_two_arms_is_gaussian():
    with load(COURSE / "09_factoring_underestimates.py") as experiment:
        own = experiment.measure.__globals__
        assert own["best_gaussian"](False) == pytest.approx(1.19347, abs=1e-5)
        assert own["best_gaussian"](True) == pytest.approx(0.93868, abs=1e-5)  # both by quadrature, elsewhere
        assert own["best_product"](sweeps=30) == pytest.approx(own["best_gaussian"](False), abs=1e-5)


def test_answers():
    with load(COURSE / "16_latent_space_is_interpretable.py"):
        from answers import above, every, head, limit, not_above, of_repeats, surely
    nan = float("nan")
    assert [above(3, 1), above(-3, 1), above(1, 1), above(1, nan), above(nan, 1), above(3, 1, 2.5)] == [
        True,
        False,
        None,
        None,
        None,
        None,
    ]
    assert [not_above(1, 1, within=3), not_above(3, 1, within=9), not_above(-9, 1, within=0)] == [True, False, True]
    assert [not_above(0, nan, within=1), not_above(0, 1, within=1), not_above(-1, 9, within=1)] == [None] * 3
    # Three repeats ask for 4.5 standard errors (Student's t), and five of which one is enough for 2.6.
    assert [round(limit(2, *given), 2) for given in ((1, math.inf), (1, 3), (5, math.inf))] == [2.0, 4.53, 2.6]
    assert [above(4, 1, repeats=3), above(5, 1, repeats=3), above(2.5, 1, of=5), above(2.5, 1)] == [
        None,
        True,
        None,
        True,
    ]
    assert [not_above(2.5, 1, within=9, of=5), not_above(2.5, 1, within=9), not_above(-4, 1, within=0, repeats=3)] == [
        True,
        False,
        None,
    ]
    assert [surely(pd.Series([0.0, 1.0, 2.0])), surely(pd.Series([0.9, 1.0, 1.1])), surely(pd.Series([1.0]))] == [
        None,
        True,
        None,
    ]
    values = pd.Series([1.0, 3.0, nan])
    assert of_repeats(values[:2]) == (2.0, 1.0) and str(of_repeats(values[:1])) == "(1.0, nan)"
    assert str(of_repeats(values)) == "(nan, nan)"
    assert [every([True, None, False]), every([True, None]), every([True]), every([])] == [False, None, True, None]
    assert head({"a": True}) == "Holds" and head({"a": True}, {"b": False}) == "Holds within bounds (not: b)"
    assert head({"a": True}, {"b": None, "c": False}) == "Holds within bounds (not: c; can't tell: b)"
    assert (
        head({"a": False, "b": None, "c": False}) == "Fails here (a; c)"
        and head({"a": True, "b": None}) == "Can't tell (b)"
    )
    with pytest.raises(vb.errors.BadInput, match="without a check"):
        head({})
