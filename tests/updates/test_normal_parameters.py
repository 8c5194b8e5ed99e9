"""The Fisher metric of normals in closed form: by automatic differentiation, and on targets where theory says where a step ends."""

from __future__ import annotations

import math

import pyro.distributions as dist
import pytest
import torch
from pyro.distributions import constraints
from torch.distributions import MultivariateNormal, Normal
from torch.distributions.kl import kl_divergence

from vbayes.updates.normal_parameters import LEAST, NormalParameters

D = 3
DIAGONAL = NormalParameters(("m", "s"), (constraints.softplus_positive,), False)
TRIANGLE = NormalParameters(("m", "c"), (constraints.lower_cholesky,), True)
PYROS = NormalParameters(("m", "s", "c"), (constraints.softplus_positive, constraints.unit_lower_cholesky), True)
KINDS = {"diagonal": DIAGONAL, "triangle": TRIANGLE, "Pyro's": PYROS}


def values_of(normal: NormalParameters, seed: int = 0) -> list[torch.Tensor]:
    stream = torch.Generator().manual_seed(seed)
    shapes = [(D,), (D,) if normal.constraints[0] is constraints.softplus_positive else (D, D), (D, D)]
    return [torch.randn(s, generator=stream, dtype=torch.float64) for s in shapes[: len(normal.names)]]


def distribution(normal: NormalParameters, values) -> torch.distributions.Distribution:
    loc, root = normal.read(*values)
    return MultivariateNormal(loc, scale_tril=root) if normal.full else Normal(loc, root)


def target(full: bool) -> torch.distributions.Distribution:
    root = torch.tensor([[0.5, 0.0, 0.0], [0.4, 0.8, 0.0], [-0.3, 0.2, 1.1]], dtype=torch.float64)
    mean = torch.tensor([1.0, -2.0, 0.5], dtype=torch.float64)
    return MultivariateNormal(mean, scale_tril=root) if full else Normal(mean, root.diagonal())


def loss(normal: NormalParameters, values) -> torch.Tensor:
    return kl_divergence(distribution(normal, values), target(normal.full)).sum()


def gradients(normal: NormalParameters, values) -> list[torch.Tensor]:
    live = [value.clone().requires_grad_() for value in values]
    return list(torch.autograd.grad(loss(normal, live), live))


def length(normal: NormalParameters, values, gradient) -> torch.Tensor:
    """Of a gradient in the metric, squared."""
    parts = normal.whitened(values, gradient)
    assert [part.shape for part in parts] == [value.shape for value in values]
    return torch.stack([part.square().sum() for part in parts]).sum()


@pytest.mark.parametrize("normal", KINDS.values(), ids=KINDS)
def test_what_is_written_reads_the_same(normal):
    values = values_of(normal)
    again = normal.read(*normal.write(*normal.read(*values)))
    for one, other in zip(normal.read(*values), again, strict=True):
        torch.testing.assert_close(one, other)


@pytest.mark.parametrize("normal", KINDS.values(), ids=KINDS)
def test_the_metric_is_fishers(normal):
    """F is the Hessian of KL(q ‖ q') in q' = q, by automatic differentiation."""
    values, gradient = values_of(normal), gradients(normal, values_of(normal))
    here = distribution(normal, values)
    flat = torch.cat([v.reshape(-1) for v in values])

    def divergence(numbers):
        parts = [p.reshape(v.shape) for p, v in zip(numbers.split([v.numel() for v in values]), values, strict=True)]
        return kl_divergence(here, distribution(normal, parts)).sum()

    fisher = torch.autograd.functional.hessian(divergence, flat)
    g = torch.cat([part.reshape(-1) for part in gradient])
    natural = torch.linalg.lstsq(fisher, g, driver="gelsd").solution  # entries above a diagonal do nothing
    torch.testing.assert_close(length(normal, values, gradient), g @ natural)
    tiny = 1e-8
    moved = torch.cat([v.reshape(-1) for v in normal.step(values, gradient, tiny)])
    used = fisher.diagonal() > 1e-9
    torch.testing.assert_close(((flat - moved) / tiny)[used], natural[used], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("normal", KINDS.values(), ids=KINDS)
def test_one_step_at_rate_one_leads_to_a_normal_target(normal):
    """In natural parameters, from wherever no direction is ten times too narrow."""
    loc, root = normal.read(*values_of(normal))
    values = normal.write(loc, 3 * (target(True).scale_tril if normal.full else target(False).scale))
    after = normal.step(values, gradients(normal, values), 1.0)
    assert float(loss(normal, after)) == pytest.approx(0.0, abs=1e-12)
    half = normal.step(values, gradients(normal, values), 0.5)
    assert 0.01 < float(loss(normal, half)) < float(loss(normal, values))


@pytest.mark.parametrize("normal", KINDS.values(), ids=KINDS)
def test_covariances_stay_positive_whatever_the_gradient(normal):
    values, stream = values_of(normal), torch.Generator().manual_seed(1)
    for scale in (1.0, 30.0, 1000.0) * 20:
        noise = [scale * torch.randn(v.shape, generator=stream, dtype=torch.float64) for v in values]
        values = normal.step(values, noise, 1.0, 2.0)
        root = normal.read(*values)[1]
        assert torch.isfinite(root).all()
        assert (root.diagonal() if normal.full else root).min() > 0


@pytest.mark.parametrize("normal", [DIAGONAL, TRIANGLE], ids=["diagonal", "triangle"])
def test_a_step_that_would_end_the_precision_keeps_half_of_it(normal):
    """Where W = I + ρ M is not clear of zero it is (I + W²) / 2, of which no eigenvalue is below a half."""
    values = normal.write(*(2.0 * part for part in (torch.ones(D, dtype=torch.float64), root_of(normal))))
    _, pull = torch.func.vjp(normal.read, *values)
    upwards = pull((torch.zeros(D, dtype=torch.float64), -10.0 * root_of(normal)))  # the density bends upwards
    before, after = (normal.read(*v)[1] for v in (values, normal.step(values, upwards, 1.0)))
    bend = normal.slopes(values, upwards)[3]
    worst = 1 + (torch.linalg.eigvalsh(bend).min() if normal.full else bend.min())
    assert worst < LEAST
    volume = (before.diagonal() / after.diagonal()).square() if normal.full else (before / after).square()
    assert volume.min() >= 0.5 and volume.max() > 1


def root_of(normal: NormalParameters) -> torch.Tensor:
    return torch.eye(D, dtype=torch.float64) if normal.full else torch.ones(D, dtype=torch.float64)


@pytest.mark.parametrize("normal", KINDS.values(), ids=KINDS)
def test_no_step_is_longer_than_it_may_be(normal):
    values = values_of(normal)
    gradient = [50 * g for g in gradients(normal, values)]
    limit = 1e-6
    after = normal.step(values, gradient, 1.0, limit)
    moved = kl_divergence(distribution(normal, values), distribution(normal, after))
    divergence = length(normal, values, gradient) / 2
    assert divergence > limit and moved.max() == pytest.approx(limit, rel=0.02)
    short = normal.step(values, gradient, 1.0, 2 * float(divergence))
    whole = normal.step(values, gradient, 1.0, math.inf)
    for one, other in zip(short, whole, strict=True):
        assert torch.equal(one, other)


def test_pyros_softplus_is_one_of_its_scales():
    """`dist.constraints` of hand-written guides do as well."""
    normal = NormalParameters(("m", "s"), (dist.constraints.positive,), False)
    values = values_of(DIAGONAL)
    start = normal.write(normal.read(*values)[0], 3 * target(False).scale)
    assert float(loss(normal, normal.step(start, gradients(normal, start), 1.0))) == pytest.approx(0.0, abs=1e-12)
