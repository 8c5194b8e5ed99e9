"""A fit as ArviZ's object: groups, dims, numbers that are known."""

from __future__ import annotations

import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro.infer.autoguide import AutoNormal

import vbayes as vb
from tests.models import binary, small_vae
from vbayes.export import arviz as export

GROUPS = {
    "posterior",
    "prior",
    "posterior_predictive",
    "log_likelihood",
    "observed_data",
    "sample_stats",
    "prior_predictive",
}


@pytest.fixture(scope="module")
def schools() -> vb.Fit:
    return vb.fit(vb.pairs.eight_schools(), vb.data.eight_schools(), steps=1500, learning_rate=0.02, progress=False)


def test_groups_dims_and_summary(schools):
    data = schools.to_arviz(draws=400)
    names = {name.strip("/") for name in (data.groups() if callable(data.groups) else data.groups)} - {""}
    assert names == GROUPS
    assert data["posterior"]["theta_tilde"].dims == ("chain", "draw", "data")
    assert data["posterior"]["mu"].dims == ("chain", "draw") and data["observed_data"]["y"].dims == ("data",)
    assert data["log_likelihood"]["y"].shape == (1, 400, 8) == data["posterior_predictive"]["y"].shape
    assert data["sample_stats"]["log_q"].shape == (1, 400)
    assert "mu_unconstrained" not in data["posterior"]
    az = export.arviz()
    summary = az.summary(data, kind="stats")
    # The reference posterior's mean of mu is 4.4; a mean-field guide comes near.
    assert abs(float(summary.loc["mu", "mean"]) - 4.4) < 1.5
    assert np.isfinite(export.loo(data).elpd) and data["posterior"].attrs["pair"] == "eight_schools"


def test_the_posterior_is_that_of_the_guide():
    fit = vb.fit(
        vb.pairs.normal_normal(), vb.data.normal_normal(), "stl", steps=800, learning_rate=0.03, progress=False
    )
    data = fit.to_arviz(draws=4000)
    z, x = data["posterior"]["z"].values[0], np.array([-0.5, 2.0])
    assert (abs(z.mean(0) - x / 2) < 4 * 0.71 / 4000**0.5 + 5e-3).all()
    assert (abs(z.std(0) - 0.5**0.5) < 0.03).all()
    predictive = data["posterior_predictive"]["x"].values[0]
    assert (abs(predictive.std(0) - 1.5**0.5) < 0.06).all()  # N(z, 1) over q
    assert (abs(data["prior"]["z"].values[0].std(0) - 1) < 0.05).all()
    stats = data["sample_stats"]
    log_w = (stats["log_p"] - stats["log_q"]).values
    # At the exact posterior every log weight is the log evidence.
    assert log_w == pytest.approx(float(fit.pair.exact.log_evidence(fit.data.first)), abs=0.05)


def test_some_rows_of_a_minibatch_fit():
    data = vb.Dataset({"x": binary(30)}, dims={"x": ("pixel",)})
    for pair in (small_vae(), vb.pairs.mean_field(6, 5, 2, rows=30)):
        fit = vb.fit(pair, data, steps=3, batch_size=10, progress=False)
        few = fit.to_arviz(data=fit.data.rows(slice(5, 9)), draws=20)
        assert few["posterior"]["z"].shape == (1, 20, 4, 2)
        assert few["posterior"]["z"].dims == ("chain", "draw", "data", "z_dim_1")
        assert few["observed_data"]["x"].dims == ("data", "pixel")
        np.testing.assert_array_equal(few["observed_data"]["x"].values, data.first[5:9].numpy())


def test_rows_keep_their_numbers():
    data = vb.Dataset({"x": binary(10)})
    pair = vb.pairs.mean_field(6, 5, 2, rows=10)
    _, rows = data.rows(slice(5, 9)).batch(pair.model, torch.tensor([0, 3])).args
    assert rows.tolist() == [5, 8]


def test_the_same_seed_gives_the_same_draws(schools):
    a, b, c = (schools.to_arviz(draws=5, seed=s)["posterior"]["mu"].values for s in (0, 0, 1))
    assert np.array_equal(a, b) and not np.array_equal(a, c)


def test_deterministic_sites():
    def model(x):
        m = pyro.sample("m", dist.Normal(x.new_zeros(()), 1.0))
        pyro.deterministic("twice", 2 * m)
        with pyro.plate("trial", len(x)):
            pyro.sample("x", dist.Normal(m, 1.0), obs=x)

    def guide(x):
        pyro.sample("m", dist.Normal(pyro.param("loc", torch.tensor(0.0)), 1.0))

    fit = vb.fit(vb.Pair(model, guide), torch.tensor([0.1, 0.2]), steps=2, progress=False)
    data = fit.to_arviz(draws=10)
    np.testing.assert_allclose(data["posterior"]["twice"].values, 2 * data["posterior"]["m"].values)
    assert "twice" not in data["observed_data"] and "twice" not in data["log_likelihood"]
    assert data["observed_data"]["x"].dims == ("trial",)


def test_masked_rows_and_factors():
    """What a mask leaves out has no likelihood; a factor is no datum."""
    x, seen = torch.tensor([0.5, 1e3, -0.5]), torch.tensor([True, False, True])

    def model(x):
        m = pyro.sample("m", dist.Normal(x.new_zeros(()), 1.0))
        pyro.factor("penalty", -(m**2))
        with pyro.plate("data", len(x)), pyro.poutine.mask(mask=seen):
            pyro.sample("x", dist.Normal(m, 1.0), obs=x)

    with vb.seeded(0):
        fit = vb.fit(vb.Pair(model, AutoNormal(model)), x, steps=5, progress=False)
    data = fit.to_arviz(draws=20)
    assert list(data["log_likelihood"].data_vars) == ["x"] == list(data["observed_data"].data_vars)
    assert (data["log_likelihood"]["x"].values[..., 1] == 0).all() and (
        data["log_likelihood"]["x"].values[..., 0] < 0
    ).all()
    assert set(data["posterior"].data_vars) == {"m"} == set(data["prior"].data_vars)


def test_drawing_leaves_the_fit_as_it_is():
    net = torch.nn.BatchNorm1d(1)

    def guide(x):
        pyro.module("net", net)
        with pyro.plate("data", len(x)):
            pyro.sample("z", dist.Normal(net(x[:, None])[:, 0], 1.0))

    def model(x):
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", dist.Normal(x.new_zeros(()), 1.0))
            pyro.sample("x", dist.Normal(z, 1.0), obs=x)

    fit = vb.fit(vb.Pair(model, guide), torch.tensor([0.5, 2.0, -0.5]), steps=3, progress=False)
    before = fit.pair.state()
    fit.to_arviz(draws=10)
    assert all(torch.equal(value, before[name]) for name, value in fit.pair.state().items())
