"""The noise of steps: of natural gradients, in the metric of the guide."""

from __future__ import annotations

import math

import pyro
import pyro.distributions as dist
import pytest
import torch

import vbayes as vb
from vbayes.errors import BadInput, Unsuitable

D = 2


def model(x):
    z = pyro.sample("z", dist.Normal(torch.zeros(D, dtype=torch.float64), 1.0).to_event(1))
    pyro.sample("x", dist.Normal(z, 1.0).to_event(1), obs=x)


def pair(unit: float = 1.0, scale: float = math.sqrt(0.5)) -> vb.Pair:
    """At the posterior N(1/2 x, 1/2) if nothing is said, and in other units."""

    def guide(x):
        loc = pyro.param("loc", lambda: torch.full((D,), 0.5, dtype=torch.float64))
        root = pyro.param(
            "c", lambda: scale * torch.eye(D, dtype=torch.float64), constraint=dist.constraints.lower_cholesky
        )
        pyro.sample("z", dist.MultivariateNormal(loc, scale_tril=root))

    made = vb.Pair(model, guide)
    return made.initialise(vb.Batch((X,)))


X = torch.ones(D, dtype=torch.float64)
options = {"at": {"here": pair()}, "replicas": 1000, "seed": 0, "progress": False, "groups": "parameter"}


def test_the_noise_of_a_step_is_known_where_the_guide_is_the_posterior():
    """There a single path's gradient is g = −Σ⁻¹(z − m): its step in the location has the noise of ε itself, D; that of K in the triangle is of −ε εᵀ + I, lower and with a halved diagonal in the metric, 1 for each of D (D + 1) / 2."""
    table = vb.compare(pair(), X, ["pathwise", "stl"], update=vb.NaturalGradient(), **options).to_dataframe()
    found = table.set_index(["estimator", "group"])
    path = found.loc["pathwise"]
    assert abs(path.variance["loc"] - D) < 5 * path.variance_se["loc"]
    assert abs(path.variance["c"] - D * (D + 1) / 2) < 5 * path.variance_se["c"]
    assert (path.bias_z.abs() < 4).all() and path.mean_norm["loc"] < 5 * path.mean_norm_se["loc"]
    assert found.loc[("stl", "all")].variance < 1e-12


@pytest.mark.slow
def test_it_is_the_same_in_any_units():
    """A gradient's variance depends on how a scale is written, a step's does not."""

    def softplus(x):
        loc = pyro.param("loc", lambda: torch.zeros(D, dtype=torch.float64))
        scale = pyro.param(
            "s", lambda: torch.full((D,), 3.0, dtype=torch.float64), constraint=dist.constraints.softplus_positive
        )
        pyro.sample("z", dist.Normal(loc, scale).to_event(1))

    def exponential(x):
        loc = pyro.param("loc", lambda: torch.zeros(D, dtype=torch.float64))
        scale = pyro.param(
            "s", lambda: torch.full((D,), 3.0, dtype=torch.float64), constraint=dist.constraints.positive
        )
        pyro.sample("z", dist.Normal(loc, scale).to_event(1))

    found = {}
    for name, guide in {"softplus": softplus, "exponential": exponential}.items():
        made = vb.Pair(model, guide)
        made.initialise(vb.Batch((X,)))
        for update in (None, vb.NaturalGradient()):
            given = {**options, "at": {"here": made}, "replicas": 200}
            table = vb.compare(made, X, ["pathwise"], update=update, **given)
            found[name, update] = table.to_dataframe().set_index("group").variance["s"]
    assert found["softplus", vb.NaturalGradient()] == pytest.approx(found["exponential", vb.NaturalGradient()])
    assert found["softplus", None] < 0.2 * found["exponential", None]


def test_a_comparison_of_steps_says_so(tmp_path):
    result = vb.compare(pair(), X, ["stl"], update=vb.NaturalGradient(0.5), **{**options, "replicas": 100})
    assert "steps of" in str(result) and "rate=0.5" in str(result)
    assert vb.compare.__module__ and type(result).load(result.save(tmp_path / "c.json")).update == result.update
    with pytest.raises(BadInput, match="whose steps are made of gradients"):
        vb.compare(pair(), X, ["stl"], update=vb.BatchAndMatch(), **options)
    flat = vb.Pair(model, lambda x: pyro.sample("z", dist.Normal(pyro.param("a", X.clone()) * 2, 1.0).to_event(1)))
    with pytest.raises(Unsuitable, match="closed form"):
        vb.compare(flat, X, ["stl"], steps=0, update=vb.NaturalGradient(), progress=False)
