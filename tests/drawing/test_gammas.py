"""Gammas and Dirichlets from normals and uniforms: their distributions, and torch's own gradients."""

from __future__ import annotations

import pyro.distributions as dist
import pytest
import torch
from torch.distributions.dirichlet import _Dirichlet_backward

import vbayes as vb
from vbayes.drawing.gammas import PROPOSALS, dirichlet, standard_gamma
from vbayes.staging import Recorder, draw_noise

DRAWS, BINS = 100_000, 10


def fresh(kind, like):
    return torch.randn_like(like) if kind == "normal" else torch.rand_like(like)


def evenly(u):
    """Each bin has its share, within five standard errors."""
    found = torch.histc(u, BINS, 0.0, 1.0) / u.numel()
    assert (found - 1 / BINS).abs().max() < 5 * (0.1 * 0.9 / u.numel()) ** 0.5


@pytest.mark.parametrize("shape", [0.05, 0.5, 1.0, 2.5, 1e4])
def test_gammas(shape, double):
    shapes = torch.full((DRAWS,), shape)
    with vb.seeded(1):
        drawn = standard_gamma(shapes, fresh)
    evenly(torch.special.gammainc(shapes, drawn))


def test_large_shapes_in_single_precision():
    """Where 1 − v + log v, as the paper has it, would be rounding alone."""
    shapes = torch.full((DRAWS,), 1e7)
    with vb.seeded(1):
        drawn = standard_gamma(shapes, fresh)
    evenly(torch.special.ndtr((drawn - 1e7) / 1e7**0.5))


def test_dirichlets():
    """Each part is a beta; with small shapes, of which torch's gammas would be zero, they are as far as numbers go."""
    shapes = torch.tensor([0.5, 2.0, 3.5])
    with vb.seeded(1):
        drawn = dirichlet(shapes.expand(DRAWS, 3), fresh)
        small = dirichlet(torch.full((1000, 4), 1e-3), fresh)
    torch.testing.assert_close(drawn.sum(-1), torch.ones(DRAWS))
    total = shapes.sum()
    mean, second = shapes / total, shapes * (shapes + 1) / (total * (total + 1))
    for power, right in ((1, mean), (2, second)):
        sample = drawn.double() ** power
        assert ((sample.mean(0) - right).abs() < 5 * sample.std(0) / DRAWS**0.5).all()
    assert ((small > 0) & (small < 1)).all() and (small.amax(-1) > 0.5).all()
    counts = torch.bincount(small.argmax(-1), minlength=4) / 1000
    assert (counts - 0.25).abs().max() < 5 * (0.25 * 0.75 / 1000) ** 0.5


def test_gradients_are_torchs(double):
    shapes = torch.tensor([[0.3, 1.5, 20.0], [4.0, 0.9, 1.0]], requires_grad=True)
    weights = torch.arange(6.0).view(2, 3)
    with vb.seeded(1), Recorder():
        drawn, parts = dist.Gamma(shapes, 1.0).rsample(), dist.Dirichlet(shapes).rsample()
    (found,) = torch.autograd.grad((weights * drawn).sum(), shapes)
    torch.testing.assert_close(found, weights * torch._standard_gamma_grad(shapes.detach(), drawn.detach()))
    (found,) = torch.autograd.grad((weights * parts).sum(), shapes)
    torch.testing.assert_close(found, _Dirichlet_backward(parts.detach(), shapes.detach(), weights))


def test_there_is_no_second_derivative():
    """As there is none of torch's, instead of a wrong one."""
    shape = torch.tensor(2.0, requires_grad=True)
    with vb.seeded(1):
        drawn = standard_gamma(shape, fresh)
    (slope,) = torch.autograd.grad(drawn**2, shape, create_graph=True)
    with pytest.raises(RuntimeError, match="not implemented"):
        torch.autograd.grad(slope, shape)


def test_noise_decides(double):
    """The same noise gives the same draws, of all that are made of gammas."""

    def draws():
        made = [
            dist.Gamma(2.0, torch.ones(3)),
            dist.Beta(0.4, torch.ones(2)),
            dist.StudentT(3.0, torch.zeros(2)),
            dist.InverseGamma(torch.ones(2), 1.0),
        ]
        return torch.cat([each.rsample() for each in made])

    with vb.seeded(0), Recorder() as calls:
        draws()
    gammas = 3 + 2 * 2 + 2 + 2
    assert calls.sizes == (PROPOSALS * gammas + 2, (PROPOSALS + 1) * gammas)
    with vb.seeded(1):
        one, other = ((n[0], u[0]) for n, u in (draw_noise(calls.sizes, 1, torch.zeros(())) for _ in range(2)))
    found = []
    for noise in (one, one, other):
        with Recorder(noise):
            found.append(draws())
    assert torch.equal(found[0], found[1]) and not (found[0] == found[2]).any()
