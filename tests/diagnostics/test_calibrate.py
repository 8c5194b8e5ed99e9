"""Calibration, where it is known whether a guide is calibrated."""

from __future__ import annotations

from dataclasses import replace

import matplotlib.pyplot as plt
import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro.infer.autoguide import AutoMultivariateNormal, AutoNormal
from torch.distributions import constraints

import vbayes as vb
from vbayes.training.several import fit_each

ROWS = 4
X = torch.zeros(ROWS)
OPTIONS = {"simulations": 100, "progress": False}


def model(x):
    mu = pyro.sample("mu", dist.Normal(x.new_zeros(()), 2.0))
    with pyro.plate("data", len(x)):
        pyro.sample("x", dist.Normal(mu, 1.0), obs=x)


def guided(shift: float = 0.0, factor: float = 1.0) -> vb.Pair:
    """The posterior N(Σx / (N + ¼), 1 / (N + ¼)), shifted by so many of its standard deviations, and as many times as wide; nothing is to be trained."""

    def guide(x):
        precision = len(x) + 0.25
        zero = pyro.param("zero", lambda: x.new_zeros(()))
        pyro.sample(
            "mu", dist.Normal(x.sum() / precision + shift * precision**-0.5 + 0 * zero, factor * precision**-0.5)
        )

    return vb.Pair(model, guide)


def row(pair: vb.Pair, **options):
    found = vb.calibrate(pair, X, steps=0, **{**OPTIONS, **options})
    return found, found.to_dataframe().iloc[0]


def test_the_posterior_is_calibrated():
    found, own = row(guided(), simulations=200)
    assert found.calibrated and own.said == "" and len(found) == 200 and found.failed == 0
    assert abs(own.bias) < 4 * own.bias_se and abs(own.spread - 1) < 4 * own.spread_se
    assert own.bias_se < 0.09
    assert found.verdict().startswith("Calibrated") and "none are off" in repr(found)


@pytest.mark.parametrize(
    "wrong, said, bias, spread",
    [
        ({"factor": 0.5}, "under-dispersed", 0.0, 2.0),
        ({"factor": 2.0}, "over-dispersed", 0.0, 0.5),
        ({"shift": 0.7}, "biased upwards", 0.7, 1.0),
        ({"shift": -0.7}, "biased downwards", -0.7, 1.0),
    ],
)
def test_what_is_wrong_with_a_guide_is_named(wrong, said, bias, spread):
    found, own = row(guided(**wrong))
    assert own.said == said and not found.calibrated
    assert abs(own.bias - bias) < 5 * own.bias_se and own.spread == pytest.approx(spread, rel=0.25)
    assert said in found.verdict() and f"mu: {said}" in repr(found)


def test_a_guide_by_a_word_finds_its_place_in_each_data_set():
    """Of a Gaussian posterior the curvature is all: it is right before any step, while a guide that stayed where one data set had put it would be far too narrow."""
    found = vb.calibrate(vb.Pair(model, "full"), X, steps=0, simulations=4, progress=False)
    assert (
        found.ranks["mu"].min() > 0 and found.ranks["mu"].max() < found.draws
    )  # there stay six of ten that are far off


@pytest.mark.slow
def test_without_steps_each_fit_goes_on_until_it_has_converged():
    """A normal by the curvature may need no step at all."""
    found = vb.calibrate(model, X, simulations=5, progress=False)
    assert len(found) == 5 and found.failed == 0
    assert found.ranks["mu"].min() > 0 and found.ranks["mu"].max() < found.draws


def test_it_is_drawn():
    found, _ = row(guided(factor=0.5))
    figure = found.plot()
    (ax,) = figure.axes
    assert ax.get_title(loc="left") == "mu: under-dispersed"
    bars = ax.patches[0].get_data().values
    assert bars.sum() == 100 and bars[0] + bars[-1] > 2 * bars[1:-1].max() / 1.5
    plt.close(figure)


def test_each_data_set_is_fitted():
    """From guides that know nothing, in one loop; and one after the other in Pyro, to like results."""
    options = {"steps": 400, "learning_rate": 0.05, "simulations": 60}
    pair = vb.Pair(model, AutoNormal(model))
    found = vb.calibrate(pair, X, progress=False, **options)
    own = found.to_dataframe().iloc[0]
    assert own.said == "" and found.steps == 400
    untrained = vb.calibrate(pair, X, steps=1, progress=False, simulations=60).to_dataframe().iloc[0]
    assert "under-dispersed" in untrained.said


@pytest.mark.slow
def test_side_by_side_each_is_what_it_is_alone():
    """With data of its own, and to rounding."""
    first = vb.fit(guided(), X, steps=0, compile=True, progress=False)
    datasets = [torch.full((ROWS,), 4.0 * i) for i in range(3)]

    def fits():
        return [
            replace(first, pair=first.pair.copy(), data=vb.Dataset.of(data), seed=i, compile=True)
            for i, data in enumerate(datasets)
        ]

    together = fit_each(fits(), 5, show=False).fits
    for fit, data, i in zip(together, datasets, range(3), strict=True):
        alone = vb.fit(first.pair, data, steps=5, seed=i, compile=True, progress=False)
        assert fit.history.elbo.tolist() == pytest.approx(alone.history.elbo.tolist(), rel=1e-5)
    ends = [fit.history.elbo.iloc[-1] for fit in together]
    assert ends[0] > ends[1] > ends[2]  # they do see different data


def test_minibatches_covariates_and_several_sites():
    def regression(a, y):
        w = pyro.sample("w", dist.Normal(a.new_zeros(2), 1.0).to_event(1))
        s = pyro.sample("s", dist.LogNormal(a.new_zeros(()), 0.3))
        with pyro.plate("data", len(a)):
            pyro.sample("y", dist.Normal(a @ w, s), obs=y)

    with vb.seeded(0):
        data = {"a": torch.randn(20, 2), "y": torch.zeros(20)}
    found = vb.calibrate(
        vb.Pair(regression, AutoMultivariateNormal(regression)),
        data,
        batch_size=10,
        steps=500,
        learning_rate=0.05,
        simulations=40,
        progress=False,
    )
    assert set(found.each) == {"w[0]", "w[1]", "s"} and found.ranks["w"].shape == (40, 2)
    assert found.to_dataframe().spread.between(0.5, 2).all()


def test_ranks_of_equals_are_drawn():
    """A discrete latent whose q is its prior: ranks are uniform all the same."""

    def counted(x):
        k = pyro.sample("k", dist.Poisson(x.new_tensor(1.0)))
        pyro.sample("x", dist.Normal(0 * k, 1.0).expand([ROWS]).to_event(1), obs=x)

    def guide(x):
        pyro.sample("k", dist.Poisson(torch.ones(()) + 0 * pyro.param("zero", lambda: torch.zeros(()))))

    options = {**OPTIONS, "simulations": 60, "draws": 19}
    found = vb.calibrate(vb.Pair(counted, guide), X, estimator="trace", steps=0, **options)
    assert found.calibrated


def test_seeds_and_the_pair_are_left_alone():
    pair = guided()
    one, two = (vb.calibrate(pair, X, steps=0, simulations=5, progress=False, seed=3) for _ in range(2))
    assert torch.equal(one.ranks["mu"], two.ranks["mu"])
    other = vb.calibrate(pair, X, steps=0, simulations=5, progress=False, seed=4)
    assert not torch.equal(one.ranks["mu"], other.ranks["mu"])
    assert not pair.parameters or float(pair.parameters["zero"]) == 0


def test_a_model_alone_and_a_fit():
    assert vb.calibrate(model, X, steps=2, simulations=2, progress=False).pair == "model"
    fit = vb.fit(guided(), X, steps=2, progress=False)
    assert len(vb.calibrate(fit, steps=0, simulations=3, progress=False)) == 3


def flat(x):
    mu = pyro.sample("mu", dist.ImproperUniform(constraints.real, (), ()))
    pyro.sample("x", dist.Normal(mu, 1.0).expand([len(x)]).to_event(1), obs=x)


def masked(x):
    mu = pyro.sample("mu", dist.Normal(0.0, 1.0).mask(False))
    pyro.sample("x", dist.Normal(mu, 1.0).expand([len(x)]).to_event(1), obs=x)


def broadcast(x):
    mu = pyro.sample("mu", dist.Normal(0.0, 1.0))
    pyro.sample("x", dist.Normal(mu, 1.0), obs=x.mean())


def factored(x):
    mu = pyro.sample("mu", dist.Normal(0.0, 1.0))
    pyro.factor("x", -((x - mu) ** 2).sum())


def wide(x):
    mu = pyro.sample("mu", dist.Normal(0.0, 1.0))
    pyro.sample("x", dist.Normal((1e4 * mu.abs()).exp(), 1.0).expand([len(x)]).to_event(1), obs=x)


def stretched(x):
    """Its one number is held against all of the data."""
    mu = pyro.sample("mu", dist.Normal(0.0, 1.0))
    pyro.sample("x", dist.Normal(mu, 1.0).expand([1]).to_event(1), obs=x)


def silent(x):
    pyro.sample("mu", dist.Normal(x.mean(), 1.0))


@pytest.mark.parametrize(
    "bad, words",
    [
        (flat, "prior of site 'mu' is improper.*Wanted: a proper prior"),
        (masked, "prior of site 'mu' is improper"),
        (broadcast, "not passed to the model as an unmodified argument"),
        (factored, "pyro.factor"),
        (stretched, r"simulates data of shape \(1,\) for column 'x' of shape \(4,\)"),
        (silent, "observes nothing"),
        (wide, "Simulated data set 0 has values in column 'x' that are not finite"),
    ],
)
def test_models_that_make_no_data(bad, words):
    guide = AutoNormal(bad, init_loc_fn=pyro.infer.autoguide.init_to_value(values={"mu": torch.tensor(0.0)}))
    with pytest.raises(vb.errors.Unsuitable, match=words):
        vb.calibrate(vb.Pair(bad, guide), X, steps=0, simulations=3, progress=False)


@pytest.mark.parametrize(
    "options, words",
    [
        ({"simulations": 1}, "simulations=1 is below 2. Wanted: an integer of at least 2"),
        ({"draws": 1}, "draws=1"),
        ({"simulations": 2.5}, "simulations=2.5"),
        ({"estimator": "auto"}, "estimator='auto'"),
        ({"step": 3}, "no keyword 'step'"),
    ],
)
def test_bad_options(options, words):
    with pytest.raises(vb.errors.BadInput, match=words):
        vb.calibrate(guided(), X, progress=False, **options)
