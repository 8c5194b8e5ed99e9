"""Linear response: exact for a normal posterior, and for others the derivative that it claims to be."""

from __future__ import annotations

import functools

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro.infer.autoguide import AutoDiagonalNormal, AutoNormal

import vbayes as vb

quiet = {"progress": False, "device": "cpu"}
LOC = torch.tensor([1.0, -2.0, 0.5])
ROOT = torch.tensor([[1.0, 0.0, 0.0], [1.8, 0.4, 0.0], [-0.5, 0.3, 2.0]])
COVARIANCE = (ROOT @ ROOT.T).double()
X = torch.linspace(0.5, 3.0, 25)
Y = (torch.arange(25) % 3 != 0).float()


def normal(x):
    """The posterior is this normal: two numbers of correlation .976, in two sites."""
    one = pyro.sample("one", dist.Normal(0.0, 1.0))
    two = pyro.sample("two", dist.Normal(torch.zeros(2), 1.0).to_event(1))
    z = torch.cat([one[None], two])
    prior = dist.Normal(0.0, 1.0).log_prob(z).sum()
    pyro.factor("posterior", dist.MultivariateNormal(LOC, scale_tril=ROOT).log_prob(z) - prior)


def logistic(x, y, tilt=None):
    """A positive slope and an intercept; `tilt` adds a multiple of the numbers to the log-density."""
    a = pyro.sample("a", dist.Normal(0.0, 2.0))
    b = pyro.sample("b", dist.LogNormal(0.0, 1.0))
    with pyro.plate("data", len(x)):
        pyro.sample("y", dist.Bernoulli(logits=a + b * (x - 1.0)), obs=y)
    if tilt is not None:
        pyro.factor("tilt", tilt[0] * a + tilt[1] * b.log())


@pytest.mark.parametrize("guide", ["diagonal", AutoNormal, AutoDiagonalNormal])
def test_of_a_normal_posterior_it_is_exact(guide):
    """Mean field has the sds of each number given all others."""
    pair = vb.Pair(normal, guide if guide == "diagonal" else guide(normal))
    fit = vb.fit(pair, X, steps=0, **quiet)  # AutoNormal has not even begun: it is taken to the optimum
    found = fit.linear_response(draws=8)
    assert found.names == ("one", "two[0]", "two[1]")
    torch.testing.assert_close(found.mean, LOC.double(), rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(found.covariance, COVARIANCE, rtol=1e-4, atol=1e-4)
    given_others = torch.linalg.inv(COVARIANCE).diagonal().rsqrt()
    torch.testing.assert_close(found.mean_field_sd, given_others, rtol=1e-4, atol=1e-4)
    table = found.to_dataframe()
    assert table.ratio.max() > 4.0 and table.name[int(table.ratio.argmax())] in repr(found)
    assert "0.98, of one and two[0]" in repr(found)


def test_it_is_the_derivative_of_mean_fields_means():
    """Of the optimum over the same draws, by the strength of u added to the log-density."""
    options = {"seed": 0, "draws": 64, "device": "cpu"}
    found, step = vb.linear_response(vb.Pair(logistic, AutoNormal(logistic)), {"x": X, "y": Y}, **options), 1e-3
    for number in range(2):
        means = []
        for side in (step, -step):
            tilt = side * torch.eye(2, dtype=torch.float64)[number]
            tilted = functools.partial(logistic, tilt=tilt)
            pair = vb.Pair(tilted, AutoNormal(tilted))
            means.append(vb.linear_response(pair, {"x": X, "y": Y}, **options).mean)
        torch.testing.assert_close((means[0] - means[1]) / (2 * step), found.covariance[number], rtol=1e-3, atol=1e-4)
    grid = torch.linspace(-6.0, 6.0, 401, dtype=torch.float64)
    a, log_b = torch.meshgrid(grid, grid, indexing="ij")
    logits = a[..., None] + log_b.exp()[..., None] * (X.double() - 1.0)
    weight = dist.Normal(0.0, 2.0).log_prob(a) + dist.Normal(0.0, 1.0).log_prob(log_b)
    weight = (weight + dist.Bernoulli(logits=logits).log_prob(Y.double()).sum(-1)).reshape(-1).softmax(0)
    numbers = torch.stack([a.reshape(-1), log_b.reshape(-1)])
    sd = (numbers.square() @ weight - (numbers @ weight).square()).sqrt()
    assert ((found.sd / sd - 1).abs() < 0.5 * (found.mean_field_sd / sd - 1).abs()).all()


def test_the_verdict_offers_it():
    diagonal = vb.fit(normal, X, guide="diagonal", **quiet)
    assert diagonal.diagnose(draws=2000).mean_field and "vb.linear_response(fit)" in diagonal.verdict()
    full = vb.fit(normal, X, guide="full", **quiet)
    assert not full.diagnose(draws=2000).mean_field and "linear_response" not in full.verdict()


def endless(x):
    pyro.sample("z", dist.Normal(0.0, 1.0))
    z = pyro.sample("w", dist.Normal(0.0, 1.0))
    pyro.factor("up", z.square())


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: vb.linear_response(vb.Pair(normal, "full"), X), "not a normal of independent numbers.*Wanted: guide='diagonal'"),
        (lambda: vb.linear_response(vb.Pair(normal, "diagonal"), X, draws=1), "draws=1 is below 2. Wanted: an integer of at least 2"),
        (lambda: vb.linear_response(vb.Pair(endless, AutoNormal(endless)), X), "no optimum near its guide"),
    ],
)  # fmt: skip
def test_bad_input(call, message):
    with pytest.raises(vb.errors.BadInput, match=message):
        call()
