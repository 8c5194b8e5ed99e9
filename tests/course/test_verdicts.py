"""The course's experiments: each fails where nothing was learnt, or where the table says otherwise, and draws what it has."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import pandas as pd
import pytest

import vbayes as vb
from vbayes.runs.experiment import find, load

COURSE = Path(__file__).parents[2] / "experiments" / "course"
VAE = {"epochs": 1, "hidden": 8, "repeats": 2}
TOO_LITTLE: dict[str, dict[str, Any]] = {
    "01_mse_is_gaussian_likelihood": {"pairs": ["linear"], "scales": [0.3], "steps": 4, "looks": 1},
    "02_pca_is_a_linear_autoencoder": {"hidden": [5, 64], "seeds": 1, "steps": 4},
    "03_bottleneck_beats_pca": {"hidden": [2], "splits": 1, "epochs": 1},
    "03_sparse_codes": {"penalties": [1e-3], "hidden": 16, "epochs": 1},
    "03_the_prior_is_a_constraint": {"betas": [0.0, 1.0, 4.0], "warm_up": 2, "latent": 2, "hidden": 8, "epochs": 1},
    "08_linear_vae_reaches_the_evidence": {"latent": 2, "steps": 4, "looks": 1, "seeds": 1},
    "09_factoring_underestimates": {"correlations": [0.5, 0.9], "steps": 3},
    "10_sampling_fails_on_multimodal_q": {"maxima": [1, 2], "draws": [1, 3], "repeats": 50, "chains": 2},
    "11_reparameterised_by_any_function": {"steps": 2, "draws": 50},
    "16_latent_space_is_interpretable": VAE,
    "17_vae_generates": {**VAE, "count": 100},
}
OTHERWISE: dict[str, tuple[dict[str, Any], Callable[[pd.DataFrame], pd.DataFrame]]] = {
    "04_evidence_bounds": (
        {"particles": [1, 5], "repeats": 3, "chains": 4, "temperatures": 2, "sets": 3},
        lambda table: table.assign(error=table.error + 50),
    ),
    "04_recognition_at_work": (
        {"latents": [1, 2], "epochs": 1, "of_a_class": 1, "hidden": 8},
        lambda table: table.assign(score=table.score - 0.1 * (table.task == "missing"), without=table.score),
    ),
    "07_evidence_splits_into_elbo_and_kl": ({"marks": [0]}, lambda table: table.assign(off=1e-3)),
    "12_reparameterisation_needs_few_samples": (
        {"dimensions": [10, 20], "per_dimension": [5], "repeats": 50},
        lambda table: table.assign(error=20 * table.error),
    ),
    "13_one_sample_per_token_is_enough": (
        {**VAE, "draws": [1, 2]},
        lambda table: table.assign(elbo_per_datum=table.elbo_per_datum + 9 * table.L),
    ),
    "14_analytic_kl_helps": ({"epochs": [0, 1], "hidden": 8, "draws": 20}, lambda table: table.assign(off=1.0)),
    "15_elbo_against_training_samples": (
        {"data": "digits", "latents": [2, 4], "samples": [100, 300], "learning_rate": 0.05},
        lambda table: table.assign(elbo_per_datum=table.elbo_per_datum - 9 * table.latents),
    ),
    "15_iwae_table": (
        {
            "methods": ["VAE-1", "VAE-2", "IWAE-2"],
            "data": "digits",
            "latent": 2,
            "hidden": 8,
            "batch_size": 100,
            "stages": 1,
            "particles": 2,
        },
        lambda table: table.assign(log_p=table.log_p - 9.0 * (table.method == "IWAE")),
    ),
    "15_marginal_likelihood_small_data": (
        {
            "data": "digits",
            "rows": [50],
            "samples": [50, 100],
            "longer": 2,
            "hidden": 8,
            "learning_rate": 0.05,
            "judged": 10,
            "chains": 2,
            "temperatures": 2,
        },
        lambda table: table.assign(log_p=table.log_p - 9.0 * (table.method == "AEVB")),
    ),
    "18_vae_oversmooths": ({**VAE, "latents": [2, 3, 4]}, lambda table: table.assign(sharpness=2.0)),
}
SECONDS = ("04", "03_the", "09", "11", "12", "15_marginal")
"""What takes seconds; the others show quickly that a verdict can be turned."""
LONG = {"05_three_problems_on_an_hmm", "06_long_chains", "06_point_or_posterior"}  # run by the course itself


def some_slow(names: Iterable[str]) -> list[Any]:
    return [pytest.param(name, marks=pytest.mark.slow) if name.startswith(SECONDS) else name for name in names]


def drawn(experiment: vb.Experiment, table: pd.DataFrame) -> None:
    assert set(experiment.quick) <= set(experiment.full) and experiment.question.endswith("?")
    assert len(experiment.shown(table)) >= 1
    drawing = experiment.figure(table)
    drawing.canvas.draw()
    plt.close(drawing)


@pytest.mark.parametrize("name", some_slow(TOO_LITTLE))
def test_too_little_training_does_not_hold(name):
    with load(COURSE / f"{name}.py") as experiment, vb.seeded(0):
        table = experiment.measure(**{**experiment.full, **TOO_LITTLE[name]})
        assert experiment.verdict(table).startswith(("Fails here (", "Can't tell ("))
        drawn(experiment, table)


@pytest.mark.parametrize("name", some_slow(OTHERWISE))
def test_other_numbers_fail(name):
    settings, changed = OTHERWISE[name]
    with load(COURSE / f"{name}.py") as experiment, vb.seeded(0):
        table = experiment.measure(**{**experiment.full, **settings})
        assert experiment.verdict(changed(table)).startswith("Fails here (")
        drawn(experiment, table)


def test_every_claim_has_its_experiment():
    names = {path.stem for path in find(COURSE)}
    assert names == set(TOO_LITTLE) | set(OTHERWISE) | LONG
    assert {int(name[:2]) for name in names} == set(range(1, 19))


def swapped(table: pd.DataFrame) -> pd.DataFrame:
    return table.assign(
        method=table.method.replace({"annealed there": "annealed back", "annealed back": "annealed there"})
    )


def flat(table: pd.DataFrame) -> pd.DataFrame:
    """As if more particles changed nothing."""
    first = table[table.num_particles == 1].set_index("pair").error
    return table.assign(error=table.error.where(table.method != "K particles", table["pair"].map(first)))


@pytest.mark.slow
def test_bounds_on_the_wrong_side_and_bounds_that_do_not_rise():
    with load(COURSE / "04_evidence_bounds.py") as experiment, vb.seeded(0):
        table = experiment.measure(**{**experiment.full, **experiment.quick})
        assert experiment.verdict(table).startswith("Holds: ")
        assert (
            experiment.verdict(swapped(table)).startswith("Fails here (")
            and "back" in experiment.verdict(swapped(table)).split(":")[0]
        )
        assert "rises with K" in experiment.verdict(flat(table)).split(":")[0]


@pytest.mark.slow
def test_a_kl_of_the_library_that_is_half_of_it(monkeypatch):
    """And the explanation is computed: where q is as far from the posterior as from the prior, it is not given."""
    from vbayes.drawing import fields

    right = fields.FIELDS["kl"]
    monkeypatch.setitem(fields.FIELDS, "kl", lambda run: right(run) / 2)
    with load(COURSE / "14_analytic_kl_helps.py") as experiment, vb.seeded(0):
        table = experiment.measure(epochs=[0, 5], hidden=16, draws=50)
        assert experiment.verdict(table).startswith("Fails here (formula, torch and vbayes agree)")
        near = table.assign(off=0.0)
        assert "errors cancel:" in experiment.verdict(near)
        assert "is not seen from these numbers" in experiment.verdict(near.assign(gap=near.kl_per_datum * 2))


def test_one_repeat_cannot_tell():
    with load(COURSE / "16_latent_space_is_interpretable.py") as experiment, vb.seeded(0):
        table = experiment.measure(**{**experiment.full, **VAE, "repeats": 1})
        assert experiment.verdict(table.assign(accuracy=table.accuracy + 0.5)).startswith(
            "Can't tell (more are told right than by PCA)"
        )


def test_answers():
    with load(COURSE / "16_latent_space_is_interpretable.py"):
        from answers import above, every, head, not_above
    nan = float("nan")
    assert [above(3, 1), above(-3, 1), above(1, 1), above(1, nan), above(nan, 1), above(3, 1, 2.5)] == [
        True,
        False,
        None,
        None,
        None,
        None,
    ]
    assert [not_above(1, 1), not_above(3, 1), not_above(-9, 1), not_above(0, nan)] == [True, False, True, None]
    assert [every([True, None, False]), every([True, None]), every([True]), every([])] == [False, None, True, None]
    assert head({"a": True}) == "Holds" and head({"a": True}, {"b": None}) == "Holds within bounds (not: b)"
    assert (
        head({"a": False, "b": None, "c": False}) == "Fails here (a; c)"
        and head({"a": True, "b": None}) == "Can't tell (b)"
    )
    with pytest.raises(vb.errors.BadInput, match="without a check"):
        head({})
