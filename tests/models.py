"""Pairs for tests: small, and together of every shape that estimators meet."""

from __future__ import annotations

import pyro
import pyro.distributions as dist
import torch
from pyro.distributions.testing.fakes import NonreparameterizedNormal
from torch import Tensor

import vbayes as vb

X = torch.tensor([-0.5, 2.0], dtype=torch.float64)


def binary(rows: int = 12, features: int = 6) -> Tensor:
    """(rows, features) of zeros and ones."""
    with vb.seeded(1):
        return torch.bernoulli(torch.full((rows, features), 0.5))


def small_vae(**options) -> vb.Pair:
    return vb.pairs.vae(6, 5, 2, **options)


def schools_by_hand() -> vb.Pair:
    """Eight schools under a guide whose every site has a closed-form KL but tau's, which is log-normal."""

    def model(y, sigma):
        mu = pyro.sample("mu", dist.Normal(y.new_zeros(()), 5.0))
        tau = pyro.sample("tau", dist.LogNormal(y.new_zeros(()), 1.0))
        with pyro.plate("data", len(y)):
            theta = pyro.sample("theta", dist.Normal(mu, tau))
            pyro.sample("y", dist.Normal(theta, sigma), obs=y)

    def guide(y, sigma):
        m = pyro.param("m", lambda: torch.tensor([0.3, -0.2]))
        s = pyro.param("s", lambda: torch.tensor([0.9, 0.6]), constraint=dist.constraints.positive)
        pyro.sample("mu", dist.Normal(m[0], s[0]))
        pyro.sample("tau", dist.LogNormal(m[1], s[1]))
        loc = pyro.param("loc", lambda: torch.linspace(-1.0, 1.0, 8))
        scale = pyro.param("scale", lambda: torch.full((8,), 0.7), constraint=dist.constraints.positive)
        with pyro.plate("data", len(y)):
            pyro.sample("theta", dist.Normal(loc, scale))

    return vb.Pair(model, guide, name="schools_by_hand")


def mixed() -> vb.Pair:
    """A global site with a path, a local one without, a local one with; model and guide share the parameter `shared`."""

    def model(x):
        shared = pyro.param("shared", lambda: torch.tensor(0.4))
        g = pyro.sample("g", dist.Normal(shared, 1.0))
        with pyro.plate("data", len(x)):
            b = pyro.sample("b", dist.Bernoulli(logits=g))
            z = pyro.sample("z", NonreparameterizedNormal(b + g, 1.0))
            c = pyro.sample("c", dist.Normal(z, 1.5))
            pyro.sample("x", dist.Normal(z + c, 1.0), obs=x)

    def guide(x):
        shared = pyro.param("shared", lambda: torch.tensor(0.4))
        logit = pyro.param("logit", lambda: torch.tensor([0.5, -1.0]))
        loc = pyro.param("loc", lambda: torch.tensor([0.2, 0.7]))
        g = pyro.sample("g", dist.Normal(shared + 0.1, 0.8))
        with pyro.plate("data", len(x)):
            b = pyro.sample("b", dist.Bernoulli(logits=logit))
            z = pyro.sample("z", NonreparameterizedNormal(loc + b + g, 0.9))
            pyro.sample("c", dist.Normal(z * 0.5, 1.1))

    return vb.Pair(model, guide, name="mixed")


def coin(t: float = 0.45) -> vb.Pair:
    """b ~ Bernoulli under the guide and a log-density −(b − t)² in the model: enumerable by hand."""

    def model(x):
        with pyro.plate("data", len(x)):
            b = pyro.sample("b", dist.Bernoulli(x.new_full((), 0.3)))
            pyro.sample("x", dist.Normal(b, 0.8), obs=x)

    def guide(x):
        logit = pyro.param("logit", lambda: torch.tensor([0.2, -0.6]))
        with pyro.plate("data", len(x)):
            pyro.sample("b", dist.Bernoulli(logits=logit))

    return vb.Pair(model, guide, name="coin")


def nested() -> vb.Pair:
    """A global site, one per row, one per entry without a path, under two plates."""

    def model(x):
        a = pyro.sample("a", dist.Normal(pyro.param("pa", lambda: torch.tensor(0.3)), 1.0))
        with pyro.plate("data", len(x), dim=-2):
            b = pyro.sample("b", dist.Normal(a, 1.0))
            with pyro.plate("feature", 3, dim=-1):
                c = pyro.sample("c", dist.Bernoulli(logits=b))
                pyro.sample("x", dist.Normal(c + b, 1.0), obs=x)

    def guide(x):
        a = pyro.sample("a", dist.Normal(pyro.param("qa", lambda: torch.tensor(0.1)), 0.7))
        qb = pyro.param("qb", lambda: torch.linspace(-1, 1, 4)[:, None])
        qc = pyro.param("qc", lambda: torch.linspace(-1, 1, 12).reshape(4, 3))
        with pyro.plate("data", len(x), dim=-2):
            b = pyro.sample("b", dist.Normal(qb + a, 0.8))
            with pyro.plate("feature", 3, dim=-1):
                pyro.sample("c", dist.Bernoulli(logits=qc + b))

    return vb.Pair(model, guide, name="nested")


def masked() -> vb.Pair:
    """A row is masked out, and one site has a scale of its own."""
    mask = torch.tensor([True, False, True, True])

    def model(x):
        with pyro.plate("data", 4), pyro.poutine.mask(mask=mask):
            z = pyro.sample("z", dist.Normal(x.new_zeros(()), 1.0))
            with pyro.poutine.scale(scale=2.5):
                pyro.sample("x", dist.Normal(z[:, None], 1.0).expand([4, 3]).to_event(1), obs=x)

    def guide(x):
        loc = pyro.param("loc", lambda: torch.linspace(0, 1, 4))
        with pyro.plate("data", 4), pyro.poutine.mask(mask=mask):
            pyro.sample("z", dist.Normal(loc, 0.5))

    return vb.Pair(model, guide, name="masked")


def sequential() -> vb.Pair:
    """Rows one by one in a Python loop."""

    def model(x):
        for i in pyro.plate("data", 4):
            z = pyro.sample(f"z{i}", dist.Bernoulli(x.new_full((), 0.4)))
            pyro.sample(f"x{i}", dist.Normal(z, 1.0).expand([3]).to_event(1), obs=x[i])

    def guide(x):
        logit = pyro.param("logit", lambda: torch.linspace(-1, 1, 4))
        for i in pyro.plate("data", 4):
            pyro.sample(f"z{i}", dist.Bernoulli(logits=logit[i]))

    return vb.Pair(model, guide, name="sequential")


def subsampled() -> vb.Pair:
    """The plate draws the minibatch itself, in the guide; the model must look at the same rows."""

    def model(x):
        with pyro.plate("data", 4, subsample_size=2) as rows:
            z = pyro.sample("z", dist.Normal(x.new_zeros(()), 1.0))
            pyro.sample("x", dist.Normal(z[:, None], 1.0).expand([2, 3]).to_event(1), obs=x[rows])

    def guide(x):
        loc = pyro.param("loc", lambda: torch.linspace(-3, 3, 4))
        with pyro.plate("data", 4, subsample_size=2) as rows:
            pyro.sample("z", dist.Normal(loc[rows], 0.5))

    return vb.Pair(model, guide, name="subsampled")
