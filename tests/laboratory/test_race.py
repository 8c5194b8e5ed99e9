"""A race: one start, one evaluator, clocks that count steps alone, and curves that are those of `vb.fit`."""

from __future__ import annotations

import functools
import itertools
import math
import signal
from dataclasses import dataclass, replace
from types import SimpleNamespace

import matplotlib
import numpy as np
import pandas as pd
import pytest
import torch

import vbayes as vb
from tests.models import binary, small_vae
from vbayes.laboratory.evaluator import Evaluator
from vbayes.laboratory.turns import turns
from vbayes.summaries import ranking
from vbayes.summaries.ranking import Entry

matplotlib.use("Agg")
X = torch.tensor([-0.5, 2.0])
run = functools.partial(vb.race, progress=False)


@pytest.fixture(scope="module")
def known() -> vb.Race:
    """STL has no noise at the posterior of this pair, the score function has much."""
    pair = vb.pairs.normal_normal()
    return run(pair, X, ["score", "stl"], steps=400, seeds=5, learning_rate=0.05, device="cpu")


@pytest.mark.on_cpu
def test_the_known_winner_wins(known):
    text = known.verdict()
    assert text.startswith("After 400 steps each, stl leads, at an ELBO of -1.79") and "score is 0.0" in text
    summary = known.summary().set_index("estimator")
    exact = float(vb.exact.normal_normal.log_evidence(X)) / 2  # the guide can be the posterior
    assert summary.elbo_at_steps["stl"] == pytest.approx(exact, abs=1e-5)
    assert exact - summary.elbo_at_steps["score"] > 5 * summary.elbo_at_steps_se["stl"] + 0.001
    assert known.evaluator == "exact ELBO" and summary.finished.tolist() == [5, 5]


@pytest.mark.on_cpu
def test_all_start_at_the_same_point_and_clocks_go_forward(known):
    table = known.to_dataframe()
    start = table[table.step == 0]
    # q = prior: E log N(x; z, 1) over z ~ N(0, 1)
    there = float((-0.5 * math.log(2 * math.pi) - 0.5 * (X**2 + 1)).mean())
    assert len(start) == 10 and start.elbo_per_datum.tolist() == pytest.approx([there] * 10, abs=1e-5)
    assert (start.seconds == 0).all()
    for _, own in table.groupby(["estimator", "seed"]):
        assert (own.seconds.diff().dropna() > 0).all() and (own.step.diff().dropna() > 0).all()
        assert own.step.iloc[-1] == 400 and len(own) == 21
    assert all(entry.engine == "machine code" and entry.setup_seconds > 0 for entry in known.entries)


def test_the_same_numbers_twice(known):
    again = run(vb.pairs.normal_normal(), X, ["score", "stl"], steps=400, seeds=[3], learning_rate=0.05)
    before = known.to_dataframe()
    columns = ["estimator", "seed", "step", "elbo_per_datum"]
    before = before[before.seed == 3][columns].reset_index(drop=True)
    pd.testing.assert_frame_equal(before, again.to_dataframe()[columns])


@pytest.mark.parametrize(
    ("compile", "names", "rows"),
    [
        (False, ["baselined", "stl"], 50),  # minibatches of 20, 20 and 10
        pytest.param(True, ["baselined"], 40, marks=pytest.mark.slow),
        pytest.param(True, ["baselined", "stl"], 50, marks=pytest.mark.slow),
    ],
)
@pytest.mark.on_cpu
def test_a_run_is_the_fit_of_its_seed(compile, names, rows):
    options = {"batch_size": 20, "steps": 8, "learning_rate": 0.01, "compile": compile}
    data = binary(rows)
    race = run(small_vae(), data, names, seeds=[4, 7], evaluations=3, **options)
    for (name, seed), own in race.fits.items():
        fit = vb.fit(small_vae(), data, name, seed=seed, progress=False, **options)
        assert own.history.elbo.tolist() == fit.history.elbo.tolist()
        assert all(torch.equal(v, own.pair.state()[k]) for k, v in fit.pair.state().items())
    on, whole = own.resume(steps=5, progress=False), fit.resume(steps=5, progress=False)
    assert on.history.elbo.tolist() == whole.history.elbo.tolist()
    assert {entry.engine for entry in race.entries} == {"machine code" if compile else "Pyro"}


@dataclass(frozen=True)
class Bursting(vb.Trace):
    """Its gradient throws the parameters out of the reals."""

    def estimate(self, particles):
        right = super().estimate(particles)
        return replace(right, surrogate=right.surrogate * 1e38)


def test_one_that_leaves_the_reals_ends_alone():
    options = {"optimizer": torch.optim.SGD, "learning_rate": 1e-3, "steps": 9, "evaluations": 3, "seeds": 2}
    race = run(vb.pairs.normal_normal(), X, {"bursting": Bursting(), "trace": vb.Trace()}, **options)
    table = race.to_dataframe()
    burst, well = (table[table.estimator == name] for name in ("bursting", "trace"))
    assert burst.groupby("seed").elbo_per_datum.last(skipna=False).isna().all() and well.elbo_per_datum.notna().all()
    assert well.groupby("seed").step.max().tolist() == [9, 9] and burst.step.max() < 9
    text = race.verdict()
    assert "2 of 2 runs of bursting became NaN or infinite (seed 0: " in text and "trace is at an ELBO" in text
    assert race.summary().set_index("estimator").finished.to_dict() == {"bursting": 0, "trace": 2}
    left = race.plot().axes[0]
    assert any("became NaN or infinite" in str(line.get_label()) for line in left.get_lines())
    alone = run(vb.pairs.normal_normal(), X, {"bursting": Bursting()}, **options)
    assert alone.verdict().startswith("No run stayed finite.")
    alone.plot()


def test_equal_time_for_all(monkeypatch):
    """On a clock that goes faster and faster from look to look, so that later runs come less far."""
    looks = itertools.count(1)
    monkeypatch.setattr("vbayes.training.run.time", SimpleNamespace(perf_counter=lambda: 1e-5 * next(looks) ** 2))
    race = run(vb.pairs.normal_normal(), X, ["stl", "pathwise"], seconds=0.02, seeds=2, evaluations=4)
    table = race.to_dataframe()
    last = table.groupby(["estimator", "seed"]).seconds.max()
    assert (last >= 0.02).all() and race.summary().seconds.iloc[0] == pytest.approx(last.min())
    assert table.groupby(["estimator", "seed"]).step.max().nunique() > 1  # as far as each came


def test_the_default_ones_that_suit():
    race = run(vb.pairs.bernoulli_toy(), torch.zeros(1), steps=2, seeds=1, evaluations=1)
    assert [entry.estimator for entry in race.entries] == ["score", "rloo", "analytic_kl"]
    assert "With one seed" in race.verdict()


def test_other_bounds_are_named():
    race = run(vb.pairs.normal_normal(), X, [vb.IWAE(2), "stl"], steps=2, seeds=2, evaluations=1)
    assert (
        "iwae(2) (IWAE bound of 2 particles) maximises another objective; they are compared by the ELBO"
        in race.verdict()
    )


def test_ctrl_c_keeps_what_all_have_been_through():
    class Pressing(vb.Trace):
        calls = 0

        def estimate(self, particles):
            Pressing.calls += 1
            if Pressing.calls == 9:
                signal.raise_signal(signal.SIGINT)
            return super().estimate(particles)

    before = signal.getsignal(signal.SIGINT)
    methods = {"pressing": Pressing(), "trace": vb.Trace()}
    race = run(vb.pairs.normal_normal(), X, methods, steps=100, seeds=1, evaluations=50)
    assert race.interrupted and signal.getsignal(signal.SIGINT) is before
    assert race.verdict().startswith("The race was stopped early. After ")
    assert 0 < race.summary().steps.iloc[0] < 20 and len(race.fits) == 2
    Pressing.calls = 7  # before anybody has come anywhere
    with pytest.raises(KeyboardInterrupt):
        run(vb.pairs.normal_normal(), X, methods, steps=100, seeds=1, evaluations=1)


def test_a_race_survives_its_file(tmp_path, known):
    again = vb.Race.load(known.save(tmp_path / "race.json"))
    assert again == known and again.to_dataframe().equals(known.to_dataframe()) and not again.fits
    with pytest.raises(vb.errors.BadInput, match="There is no file or folder .*Wanted: a file written by `Race.save`"):
        vb.Race.load(tmp_path / "nowhere.json")


def test_a_file_with_the_old_name_of_the_evaluator_loads(tmp_path, known):
    path = known.save(tmp_path / "race.json")
    path.write_text(path.read_text().replace('"evaluator":', '"yardstick":'))
    assert '"yardstick"' in path.read_text() and vb.Race.load(path) == known


@pytest.mark.on_cpu
def test_the_figure_shows_what_matters(known):
    left, right = known.plot().axes
    low, high = left.get_ylim()
    assert -2.1 < low < -1.8 < high < -1.75  # it started at -2.5
    assert left.get_ylim() == right.get_ylim() and "seconds of training" in right.get_xlabel()


def test_who_runs_first_changes():
    order = list(turns(["a", "b", "c"], (0, 1), [(1.0, 2.0)] * 3))
    assert len(order) == 18 and [turn[0] for turn in order[::3]] == ["a", "b", "b", "c", "c", "a"]
    assert all({name for name, _, _ in order[i : i + 3]} == {"a", "b", "c"} for i in range(0, 18, 3))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"steps": 5, "seconds": 1.0}, "Both steps=5 and seconds=1.0"),
        ({"steps": 0}, "steps=0 is below 1. Wanted"),
        ({"seconds": -1.0}, "seconds=-1.0 is out of range. Wanted"),
        ({"seeds": 0}, "seeds=0 is below 1. Wanted"),
        ({"seeds": [1, 1]}, r"seeds=\(1, 1\). Wanted"),
        ({"evaluations": 0}, "evaluations=0 is below 1. Wanted"),
        ({"compile": "yes"}, "compile='yes' is not a valid choice. Wanted"),
        ({"estimators": []}, "estimators=.. is empty. Wanted"),
        ({"estimators": ["stl", "stl"]}, "given twice"),
        ({"estimators": ["slt"]}, "Did you mean 'stl'"),
        ({"batch_size": 5}, "batch_size=5 does not fit"),
        ({"step": 5}, "has no keyword 'step'"),
    ],
)
def test_wrong_input(options, message):
    with pytest.raises(vb.errors.BadInput, match=message):
        run(vb.pairs.normal_normal(), X, **options)


# ---- the evaluator


def without_truth() -> vb.Pair:
    pair = vb.pairs.normal_normal()
    return vb.Pair(pair.model, pair.guide, name="normal_normal").initialise(vb.Batch((X,)))


@pytest.mark.parametrize("way", ["machine code", "vmap", "Pyro"])
def test_the_evaluator_is_unbiased_and_always_the_same(way, monkeypatch):
    if way == "vmap":
        monkeypatch.setattr("vbayes.laboratory.evaluator.made_by", lambda *_, **__: (None, None, "no"))
    if way == "Pyro":

        def fails(*_):
            raise vb.errors.CaptureFailed("no")

        monkeypatch.setattr("vbayes.laboratory.evaluator.stage", fails)
    pair = without_truth().load({"loc": torch.tensor([0.3, 0.2]), "scale": torch.tensor(-0.5)})
    data = vb.Dataset.of(X)
    evaluator = Evaluator(pair, data, subset=False)
    exact = vb.exact.normal_normal.elbo(X, pair.parameters["loc"], pair.parameters["scale"].exp())
    # Var of Σ −½ (x − loc − s ε)²: Σ s² (x − loc)² + s⁴ / 2
    s = math.exp(-0.5)
    variance = float((s**2 * (X - pair.parameters["loc"]) ** 2 + s**4 / 2).sum())
    se = math.sqrt(variance / (100 if way == "Pyro" else 1000)) / 2
    assert abs(evaluator(pair) - float(exact) / 2) < 5 * se
    assert evaluator(pair) == evaluator(pair.copy()) == Evaluator(pair, data, subset=False)(pair)
    # The same draws for all: of a difference that no draw tells apart nothing is noise.
    moved = pair.copy().load({"loc": pair.parameters["loc"], "scale": torch.tensor(-20.0)})
    wanted = float(vb.exact.normal_normal.elbo(X, pair.parameters["loc"], torch.tensor(-20.0).exp())) / 2
    assert evaluator(moved) == pytest.approx(wanted, abs=1e-4)


def test_the_evaluator_takes_some_rows_of_many(monkeypatch):
    monkeypatch.setattr("vbayes.laboratory.evaluator.ROWS", 30)
    pair, data = small_vae(), vb.Dataset.of(binary(100))
    pair.initialise(data.batch(pair.model))
    part, whole = (Evaluator(pair, data, subset=subset) for subset in (True, False))
    assert part.description.endswith("each of 30 rows") and whole.description.endswith("each of 100 rows")
    assert part(pair) != whole(pair) and part(pair) == pytest.approx(whole(pair), rel=0.1)


# ---- the ranking


def curves(**ends: list[float]) -> tuple[pd.DataFrame, list[Entry]]:
    """Estimator → ELBO at the end by seed, from −10 at the start on a straight line of 100 steps; the n-th takes n seconds."""
    rows = []
    for slow, (name, values) in enumerate(ends.items(), start=1):
        for seed, end in enumerate(values):
            for share in (0.0, 0.5, 1.0):
                elbo = -10 + share * (end + 10)
                rows.append((name, seed, round(100 * share), slow * share, elbo))
    table = pd.DataFrame(rows, columns=["estimator", "seed", "step", "seconds", "elbo_per_datum"])
    return table, [Entry(name, "ELBO", "machine code", 0.1) for name in ends]


def test_equal_steps_and_equal_time_have_their_own_leaders():
    table, entries = curves(quick=[-5.0, -5.1, -4.9], slow=[-2.0, -2.1, -1.9])
    text = ranking.verdict(table, entries)
    assert text.startswith("After 100 steps each, slow leads, at an ELBO of -2 nats per datum: quick is 3")
    assert "After 1 s each, quick leads, at an ELBO of -5 nats per datum: slow is 1 " in text
    assert "To reach -2.1: slow" in text and "not all runs of quick reached it" in text
    rows = ranking.summary(table, entries).set_index("estimator")
    assert rows.elbo_at_seconds["slow"] == pytest.approx(-6.0) and rows.seconds.iloc[0] == 1.0
    assert rows.level.iloc[0] == pytest.approx(-2.1) and np.isnan(rows.seconds_to_level["quick"])
    assert rows.seconds_to_level["slow"] == pytest.approx(2 * np.mean([7.9 / 8, 1, 7.9 / 8.1]), rel=1e-3)
    assert rows.ms_per_step["slow"] == pytest.approx(20)


def test_differences_are_paired_and_three_seeds_are_few():
    paired, entries = curves(a=[-5.0, -4.0, -3.0], b=[-5.1, -4.11, -3.09])  # far apart seed by seed only
    assert "a leads" in ranking.verdict(paired, entries)
    # 3 SE is not enough of three seeds (Student's t asks for 4.5), but is of twelve.
    gaps = np.array([0.1, 0.2, 0.06])
    few, entries = curves(a=[0.0] * 3, b=(-gaps).tolist())
    assert gaps.mean() > 2.5 * gaps.std(ddof=1) / 3**0.5 and "can't be distinguished" in ranking.verdict(few, entries)
    many, entries = curves(a=[0.0] * 12, b=(-np.tile(gaps, 4)).tolist())
    assert "a leads" in ranking.verdict(many, entries)


def test_two_seeds_can_not_tell_what_is_chance():
    """Of two, a gap of 5.9 ± 0.44 may be chance where one of 1.4 ± 0.08 is not: the verdict takes neither for a lead."""
    table, entries = curves(a=[-1.0, -1.0], b=[-2.32, -2.48], c=[-6.46, -7.34])
    text = ranking.verdict(table, entries)
    assert "a is highest, at an ELBO of -1 nats per datum: b is 1.4 ± 0.08 behind; c is 5.9 ± 0.4 behind." in text
    assert "distinguished" not in text and " leads" not in text and "With two seeds" in text and "seeds=5" in text


def test_the_more_estimators_the_clearer_a_lead_must_be():
    """A gap of 7 ± 0.6 seed by seed, which of two estimators is a lead; any of five may be as far behind by chance, with three seeds, and the verdict says what would tell."""
    gaps = {
        name: (np.array([-0.6, -0.7, -0.8]) * by).tolist()
        for name, by in zip("bcde", (1.0, 1.1, 1.2, 30.0), strict=True)
    }
    two, entries = curves(a=[0.0] * 3, b=gaps["b"])
    assert "a leads" in ranking.verdict(two, entries) and "by chance" not in ranking.verdict(two, entries)
    five, entries = curves(a=[0.0] * 3, **gaps)
    text = ranking.verdict(five, entries)
    assert text.startswith("After 100 steps each, a, b, c, d and e can't be distinguished; ")
    assert text.endswith(
        "With 3 seeds, one of 5 may be 14 standard errors behind the best by chance; with seeds=5, 5.6."
    )


def test_a_tie_with_the_best_is_not_a_lead_over_the_others():
    table, entries = curves(a=[-1.0, -1.0, -1.0], b=[-1.5, -1.5, -1.5], c=[-1.0, -1.0, -4.0])
    text = ranking.verdict(table, entries)
    assert text.startswith(
        "After 100 steps each, a is highest, at an ELBO of -1 nats per datum, but can't be distinguished from c (1 ± 1 behind); b is 0.5"
    )


def test_an_unsteady_clock_and_a_slow_engine_are_named():
    table, entries = curves(a=[-5.0, -5.0], b=[-6.0, -6.0])
    assert "unsteady" not in ranking.verdict(table, entries) and "Pyro" not in ranking.verdict(table, entries)
    table.loc[(table.estimator == "b") & (table.seed == 1) & (table.step == 100), "seconds"] += 5
    entries[0] = replace(entries[0], engine="Pyro")
    text = ranking.verdict(table, entries)
    assert "The clock was unsteady: the steps of b with seed 1 took 3.5 times" in text
    assert "a ran step by step in Pyro, but the others were compiled" in text
