"""Log-likelihoods of what was observed alone, and what counts them."""

from __future__ import annotations

import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro.infer.autoguide import AutoNormal

import vbayes as vb
from vbayes.export import arviz as export
from vbayes.export.observed import observed_alone

NAN = float("nan")
Y = torch.tensor([0.3, NAN, -0.4, 1.2, NAN, 0.1])


def level(y):
    m = pyro.sample("m", dist.Normal(0.0, 1.0))
    with pyro.plate("data", len(y)):
        pyro.sample("y", dist.Normal(m, 1.0), obs=y)


def table(x):
    m = pyro.sample("m", dist.Normal(0.0, 1.0))
    with pyro.plate("feature", 2, dim=-1), pyro.plate("data", len(x), dim=-2):
        pyro.sample("x", dist.Normal(m, 1.0), obs=x)


def events(x):
    m = pyro.sample("m", dist.Normal(0.0, 1.0))
    with pyro.plate("data", len(x)):
        pyro.sample("x", dist.Normal(m, 1.0).expand([2]).to_event(1), obs=x)


def fitted(model, data):
    return vb.fit(vb.Pair(model, AutoNormal(model)), data, steps=3, missing="mask", compile=False, progress=False)


def test_loo_counts_what_was_observed():
    """As of a fit without those rows, with the same draws."""
    masked = fitted(level, {"y": Y}).to_arviz(draws=200, prior=False)
    ll = masked["log_likelihood"]["y"]
    assert ll.dims == ("chain", "draw", "data") and ll.coords["data"].values.tolist() == [0, 2, 3, 5]
    assert masked["observed_data"]["y"].shape == (6,) == masked["posterior_predictive"]["y"].shape[2:]
    m = masked["posterior"]["m"].values[..., None]
    known = Y[~Y.isnan()].numpy()
    np.testing.assert_allclose(ll, -0.5 * (known - m) ** 2 - 0.5 * np.log(2 * np.pi), rtol=1e-4)
    assert len(export.loo(masked).pareto_k) == 4
    assert export.arviz().loo(masked).n_data_points == 4


@pytest.mark.parametrize(
    ("model", "dims", "labels"),
    [
        (table, ("chain", "draw", "x_observed"), ["0, 0", "0, 1", "1, 0"]),
        (events, ("chain", "draw", "data"), [0, 1]),
    ],
)
def test_gaps_in_several_dimensions(model, dims, labels):
    """Number by number where they are apart; of an event, a row of which nothing is known."""
    data = fitted(model, torch.tensor([[0.1, 0.2], [0.3, NAN], [NAN, NAN]])).to_arviz(draws=5, prior=False)
    found = data["log_likelihood"]["x"]
    assert found.dims == dims and found.coords[dims[-1]].values.tolist() == labels and bool((found < 0).all())


def test_of_several_variables():
    """Along one dimension with the same gaps, or apart; a variable of which nothing was observed is none."""
    ll = {name: -np.ones((1, 2, 3)) for name in "abcd"}
    dims = {name: ["row"] for name in "abcd"}
    first, none = np.array([True, False, True]), np.zeros(3, dtype=bool)
    for name in "ab":
        ll[name][..., 1] = 0
    ll["d"][:] = 0
    found, named, coords = observed_alone(
        {n: ll[n] for n in "ab"}, {"a": first, "b": first}, dims, {"row": list("xyz")}
    )
    assert found["a"].shape == (1, 2, 2) and named["b"] == ["row"] and coords["row"] == ["x", "z"]
    found, named, coords = observed_alone(ll, {"a": first, "b": first, "d": none}, dims, {"row": list("xyz")})
    assert set(found) == set("abc") and named["a"] == ["a_observed"] and named["c"] == ["row"]
    assert coords["b_observed"] == ["x", "z"] and coords["row"] == list("xyz")
    sure = np.zeros((1, 2, 3))
    assert observed_alone({"a": sure}, {}, dims, {})[0]["a"] is sure, "a density of one is one"
