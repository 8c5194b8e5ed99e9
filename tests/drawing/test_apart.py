"""Latents of each datum apart from those that all share, on normal models whose every conditional is known."""

from __future__ import annotations

import pyro
import pyro.distributions as dist
import pytest
import torch

import vbayes as vb
from vbayes.drawing.apart import Apart
from vbayes.drawing.joint_normal import JointNormal

N, INSIDE = 6, 2  # data, and latents of each
X = torch.linspace(-1.0, 2.0, N * INSIDE).reshape(N, INSIDE)


def model(x):
    """θ ~ LogNormal(0, 1), z ~ LogNormal(log θ, 1), log x ~ N(log z, ½): a joint normal in logarithms."""
    theta = pyro.sample("theta", dist.LogNormal(x.new_zeros(()), 1.0))
    with pyro.plate("data", len(x), dim=-2), pyro.plate("inside", INSIDE, dim=-1):
        z = pyro.sample("z", dist.LogNormal(theta.log(), 1.0))
        pyro.sample("x", dist.Normal(z.log(), 0.5), obs=x)


def by_sites(x):
    """The posterior, site by site."""
    precision = 1.0 + N * INSIDE / 1.25
    theta = pyro.sample("theta", dist.LogNormal(X.sum() / 1.25 / precision, precision**-0.5))
    with pyro.plate("data", len(x), dim=-2), pyro.plate("inside", INSIDE, dim=-1):
        pyro.sample("z", dist.LogNormal((theta.log() + 4 * x) / 5, 0.2**0.5))


def evidence() -> float:
    covariance = 1.25 * torch.eye(N * INSIDE) + 1.0
    return float(dist.MultivariateNormal(torch.zeros(N * INSIDE), covariance).log_prob(X.reshape(-1)))


def apart(pair: vb.Pair) -> Apart | None:
    return Apart.of(pair.model, pair.guide, (X,))


@pytest.mark.parametrize("guide", ["full", "by_sites"])
def test_under_the_posterior_no_weight_says_anything(guide):
    """p(x, z | θ)/q(z | θ) is p(x | θ) at any z, and p(x, θ)/q(θ) is p(x) at any θ, in the latents' own space."""
    pair = vb.Pair(model, "full") if guide == "full" else vb.Pair(model, by_sites)
    pair = vb.fit(pair, X, steps=0, progress=False).pair if guide == "full" else pair
    with pair.scope(), torch.no_grad(), vb.seeded(0):
        found = apart(pair)
        assert found.local == ("z",) and found.shared == ("theta",) and found.size == N and found.name == "data"
        for _ in range(3):
            made = found.weigh(4)
            torch.testing.assert_close(made.each, made.each[:1].expand(4, N), rtol=0.0, atol=3e-3)
            assert float(made.shared + made.each[0].sum()) == pytest.approx(evidence(), abs=0.02)
            assert made.each[0].std() > 0.1


def test_independent_numbers_are_a_normal_without_covariances():
    pair = vb.fit(model, X, guide="diagonal", steps=0, progress=False).pair
    with pair.scope(), torch.no_grad():
        found = JointNormal.of(pair.guide)
        whole = JointNormal(pair.guide, found._mean, found._covariance.diag())
        made = []
        for joint in (found, whole):
            with vb.seeded(0):
                made.append(joint.draw(("z",), -2, N))
    assert made[0][1].shape == (N,)
    torch.testing.assert_close(*made)


def outside(x):
    """A sum over the data of what is each one's own."""
    with pyro.plate("data", len(x)):
        z = pyro.sample("z", dist.Normal(0.0, 1.0))
    pyro.sample("x", dist.Normal(z.sum(), 1.0), obs=x.sum())


def backwards(x):
    """A guide whose shared latent depends on those of the data."""
    with pyro.plate("data", len(x), dim=-2), pyro.plate("inside", INSIDE, dim=-1):
        z = pyro.sample("z", dist.LogNormal(x, 1.0))
    pyro.sample("theta", dist.LogNormal(z.log().mean(), 1.0))


def test_what_hangs_together_is_not_taken_apart():
    for pair in (
        vb.Pair(outside, "diagonal"),
        vb.Pair(model, backwards),
        vb.Pair(model, "flow"),
        vb.Pair(lambda x: pyro.sample("x", dist.Normal(pyro.sample("m", dist.Normal(0.0, 1.0)), 1.0), obs=x.sum())),
    ):
        fit = (
            vb.fit(pair, X, steps=0, progress=False)
            if pair.word
            else vb.fit(pair, X, steps=0, compile=False)
            if pair.parameters
            else None
        )
        own = fit.pair if fit else pair
        with own.scope(), torch.no_grad(), vb.seeded(0):
            assert apart(own) is None
