"""Guides whose latents are computed from auxiliary draws and parameters, as those of AutoStructured: they have a density, though each site is a point mass."""

from __future__ import annotations

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro.infer.autoguide import AutoStructured

import vbayes as vb

X = torch.tensor([0.5, 2.0, 1.0])
EVIDENCE = float(dist.MultivariateNormal(torch.zeros(3), torch.eye(3) + 1).log_prob(X))


def model(x):
    z = pyro.sample("z", dist.Normal(0.0, 1.0))
    with pyro.plate("data", len(x)):
        pyro.sample("x", dist.Normal(z, 1.0), obs=x)


def exact(x):
    """The posterior, N(x̄ 3/4, 1/4)."""
    loc = pyro.param("loc", torch.tensor(0.875))
    sd = pyro.param("sd", torch.tensor(0.5), constraint=dist.constraints.positive)
    eps = pyro.sample("eps", dist.Normal(0.0, 1.0), infer={"is_auxiliary": True})
    pyro.sample("z", dist.Delta(loc + sd * eps, log_density=-sd.log()))


def point(x):
    pyro.sample("eps", dist.Normal(0.0, 1.0), infer={"is_auxiliary": True})
    pyro.sample("z", dist.Delta(pyro.param("at", torch.tensor(0.875))))


def test_its_weights_are_those_of_its_draws():
    """They used to be refused, and the verdict called the guide a point without spread."""
    pair = vb.Pair(model, exact)
    found = vb.log_evidence(pair, X, num_particles=20, progress=False, device="cpu")
    assert found.value == pytest.approx(EVIDENCE, abs=1e-5)
    diagnosis = vb.diagnose(pair, X, draws=500, device="cpu")
    assert (diagnosis.points, diagnosis.trust) == (False, "good")


def test_autostructured_is_no_point():
    fit = vb.fit(vb.Pair(model, AutoStructured(model, conditionals={"z": "normal"})), X, steps=20, progress=False)
    assert not fit.diagnose(draws=500).points
    ours = vb.log_evidence(fit, method="elbo", num_particles=4000, progress=False)
    with fit.pair.scope(), vb.seeded(0), torch.no_grad():
        theirs = -pyro.infer.Trace_ELBO(4000, vectorize_particles=True, max_plate_nesting=1).loss(
            fit.pair.model, fit.pair.guide, X
        )
    assert ours.value == pytest.approx(theirs, abs=6 * ours.se)


def test_it_has_no_score_all_the_same():
    with pytest.raises(vb.errors.Unsuitable, match="computes 'z' from auxiliary draws and parameters"):
        vb.fit(vb.Pair(model, exact), X, "rloo", steps=1, progress=False)


def test_a_point_beside_auxiliary_draws_stays_a_point():
    assert vb.diagnose(vb.Pair(model, point), X, device="cpu").points
    with pytest.raises(vb.errors.Unsuitable, match="point mass with parameters at 'z'"):
        vb.log_evidence(vb.Pair(model, point), X, progress=False, device="cpu")
