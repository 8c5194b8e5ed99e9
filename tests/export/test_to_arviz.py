"""A fit as ArviZ's object: groups, dims, numbers that are known."""

from __future__ import annotations

import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro.infer.autoguide import AutoDelta, AutoNormal

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
    "constant_data",
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


def test_weights_and_draws_resampled_by_them():
    """A guide that is off, each datum by another amount: its own weights bring each home, whatever is plotted or counted afterwards."""
    pair, data = vb.pairs.normal_normal(), vb.data.normal_normal()
    pair = pair.initialise(data.batch(pair.model)).at({"loc": torch.tensor([0.4, 0.6])})
    fit = vb.fit(pair, data, steps=1, learning_rate=1e-6, progress=False)
    plain, better = (fit.to_arviz(draws=6000, resample=resample) for resample in (False, True))
    stats = plain["sample_stats"]
    assert stats["log_weight"].dims == ("chain", "draw", "data") == stats["pareto_k"].dims
    np.testing.assert_allclose(np.exp(stats["log_weight"].values).sum(1), 1.0)
    assert (stats["pareto_k"].values[0] == stats["pareto_k"].values[0, 0]).all()
    x = np.array([-0.5, 2.0])
    z = better["posterior"]["z"].values[0]
    assert (abs(plain["posterior"]["z"].values[0].mean(0) - x / 2) > 0.3).all() and (
        abs(z.mean(0) - x / 2) < 0.06
    ).all()
    made, likely = better["posterior_predictive"]["x"].values[0], better["log_likelihood"]["x"].values[0]
    np.testing.assert_allclose(likely, -0.5 * (x - z) ** 2 - 0.5 * np.log(2 * np.pi), rtol=1e-4)  # of the same draws
    assert abs((made - z).mean()) < 0.05 and abs((made - z).std() - 1) < 0.05
    assert set(better["sample_stats"].data_vars) == {"pareto_k"}, "nothing that would weigh them again"
    assert better.attrs["resampled"] and len(np.unique(z[:, 0])) < 6000


def test_weights_of_all_data_and_of_a_point(schools):
    found = schools.to_arviz(draws=200, resample=True)
    assert found["sample_stats"]["pareto_k"].dims == ("chain", "draw")
    mu, rows = found["posterior"]["mu"].values[0], found["posterior"]["theta_tilde"].values[0]
    chosen = {}
    for value, row in zip(mu, rows, strict=True):  # a draw stays together
        assert np.array_equal(chosen.setdefault(float(value), row), row)

    def model(x):
        m = pyro.sample("m", dist.Normal(x.new_zeros(()), 1.0))
        with pyro.plate("data", len(x)):
            pyro.sample("x", dist.Normal(m, 1.0), obs=x)

    point = vb.fit(vb.Pair(model, AutoDelta(model)), torch.ones(3), steps=2, progress=False)
    assert set(point.to_arviz(draws=5)["sample_stats"].data_vars) == {"log_p", "log_q"}
    with pytest.raises(vb.errors.Unsuitable, match="is a point"):
        point.to_arviz(draws=5, resample=True)


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
        with pyro.plate("data", len(x)), pyro.poutine.mask(mask=seen.to(x.device)):
            pyro.sample("x", dist.Normal(m, 1.0), obs=x)

    with vb.seeded(0):
        fit = vb.fit(vb.Pair(model, AutoNormal(model)), x, steps=5, progress=False)
    data = fit.to_arviz(draws=20)
    assert list(data["log_likelihood"].data_vars) == ["x"] == list(data["observed_data"].data_vars)
    assert (
        data["log_likelihood"]["x"].coords["data"].values.tolist() == [0, 2]
        and (data["log_likelihood"]["x"].values < 0).all()
    )
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


def slope(x, y=None):
    """In Pyro's own convention: without `y` the model draws it. Its mean is recorded inside the plate, a total of it outside."""
    a = pyro.sample("a", dist.Normal(x.new_zeros(()), 1.0))
    with pyro.plate("data", len(x)):
        mu = pyro.deterministic("mu", a * x)
        y = pyro.sample("y", dist.Normal(mu, 1e-3), obs=y)
    pyro.deterministic("total", y.sum())
    pyro.factor("pull", -(a**2))


def slope_guide(x, y=None):
    pyro.sample("a", dist.Normal(pyro.param("a_loc", torch.tensor(0.7)), 0.3))


ROWS = torch.arange(1.0, 6.0)


@pytest.fixture(scope="module")
def sloping() -> vb.Fit:
    return vb.fit(vb.Pair(slope, slope_guide), {"x": ROWS, "y": 2 * ROWS}, steps=2, progress=False)


def test_deterministic_sites_are_computed_from_what_was_drawn(sloping):
    data = sloping.to_arviz(draws=7)
    for latent, predictive in (("posterior", "posterior_predictive"), ("prior", "prior_predictive")):
        a, mu, y = (data[g][n].values for g, n in ((latent, "a"), (latent, "mu"), (predictive, "y")))
        assert mu.shape == y.shape == (1, 7, 5)
        np.testing.assert_allclose(mu, a[..., None] * ROWS.numpy(), rtol=1e-6)
        assert (abs(y - mu) < 6e-3).all() and (y != mu).all()
    np.testing.assert_allclose(data["prior"]["total"].values, data["prior_predictive"]["y"].values.sum(-1), rtol=1e-5)
    np.testing.assert_allclose(data["posterior"]["total"].values, np.full((1, 7), 30.0))
    assert set(data["posterior"].data_vars) == {"a", "mu", "total"} and set(data["log_likelihood"].data_vars) == {"y"}


def test_data_that_are_not_given_are_predicted(sloping):
    new = torch.tensor([10.0, 20.0])
    data = sloping.to_arviz(data={"x": new}, draws=7)
    assert set(data["posterior"].data_vars) == {"a", "mu", "total"} == set(data["prior"].data_vars)
    assert set(data["posterior_predictive"].data_vars) == {"y"} == set(data["prior_predictive"].data_vars)
    a, y = data["posterior"]["a"].values, data["posterior_predictive"]["y"].values
    assert y.shape == (1, 7, 2) and (abs(y - a[..., None] * new.numpy()) < 6e-3).all()
    # The density is that of the latents: a factor counts, what was predicted does not.
    expected = torch.distributions.Normal(0.0, 1.0).log_prob(torch.as_tensor(a)) - torch.as_tensor(a) ** 2
    np.testing.assert_allclose(data["sample_stats"]["log_p"].values, expected.numpy(), rtol=1e-5)
