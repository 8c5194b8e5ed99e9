"""Pyro's guides that run the model themselves, with its observations."""

from __future__ import annotations

import pickle

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro.infer import Trace_ELBO
from pyro.infer.autoguide import AutoHierarchicalNormalMessenger, AutoNormalMessenger, AutoRegressiveMessenger

import vbayes as vb

X = torch.tensor([0.5, 2.0, 1.0])


def model(x):
    z = pyro.sample("z", dist.Normal(0.0, 1.0))
    s = pyro.sample("s", dist.HalfNormal(1.0))
    pyro.deterministic("twice", 2 * z)
    with pyro.plate("data", len(x)):
        pyro.sample("x", dist.Normal(z, 0.5 + s), obs=x)


@pytest.mark.parametrize("kind", [AutoNormalMessenger, AutoHierarchicalNormalMessenger, AutoRegressiveMessenger])
def test_they_train_as_in_pyro(kind):
    """They used to be an error: the guide samples 'x', which the model observes."""
    pair = vb.Pair(model, kind(model))
    fit = vb.fit(pair, X, "trace", steps=3, progress=False)
    with fit.pair.scope():
        with vb.seeded(1):
            ours = vb.Trace().loss(fit.pair.model, fit.pair.guide, X)
        with vb.seeded(1):
            theirs = Trace_ELBO().loss(model, pair.guide, X)
    assert ours == pytest.approx(theirs, rel=1e-5)
    assert set(fit.posterior(draws=5, method="guide").draws) == {"z", "s"}
    assert [site.name for site in vb.check(pair, X, show=False).sites if site.in_guide == "yes"] == ["z", "s"]


def test_one_can_be_pickled():
    pair = vb.Pair(model, AutoNormalMessenger(model))
    vb.fit(pair, X, steps=1, progress=False)
    assert vb.fit(pickle.loads(pickle.dumps(pair)), X, steps=1, progress=False).steps == 1
