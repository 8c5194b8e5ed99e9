"""The pathwise gradient with a quadratic expansion as a control variate."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ..drawing.particles import Latent, Particles
from .base import Estimate, Estimator


@dataclass(frozen=True)
class Quadratic(Estimator):
    """The pathwise gradient with a quadratic expansion of log p at the guide's mean as a control variate.

    surrogate = mean_k [log p(x, z_k) − b(z_k)] + E_q[b] + H(q), with b(z) = g·(z − m) + ½ (z − m)ᵀ H (z − m), g and H gradient and Hessian of log p(x, ·) at m = E_q[z], all held
    constant; E_q[b] = g·m + ½ tr(H L Lᵀ) and H(q) = log |L| up to constants, q = N(m, L Lᵀ)

    Bound: ELBO. Bias: none. Needs: a guide of Normal or MultivariateNormal sites that are independent given the data; one more gradient of the model for each latent of a datum. It has no noise if
    log p is quadratic in z, whatever q is. If log p is far from quadratic within the width of q, it can be worse than `Pathwise`, whereas `FittedQuadratic` is at most a factor of 2 / (2 − ρ) worse.

    References:
        Miller, Foti, D'Amour & Adams 2017, Reducing reparameterization gradient variance, arXiv:1705.07880.
        Geffner & Domke 2020, Approximation based variance reduction for reparameterization gradients, arXiv:2007.14634.
    """

    needs = frozenset({"z", "densities", "latents"})
    requires = frozenset({"path"})
    families = frozenset({"normal", "full_normal"})
    reference = "Miller et al. 2017, arXiv:1705.07880"

    def estimate(self, particles: Particles) -> Estimate:
        mean = mean_of(particles)
        log_p, log_q = particles.densities(particles.z)
        with torch.enable_grad():  # type: ignore[no-untyped-call]
            slope, curvature = _parabola(particles, mean.detach())
        away = particles.z - mean.detach()
        drawn = ((slope + 0.5 * (curvature @ away.unsqueeze(-1)).squeeze(-1)) * away).sum(-1)
        expected = expected_of(particles, slope, curvature)
        return Estimate((log_p - log_q).detach().mean(0), (log_p - drawn).mean(0) + expected.squeeze(0))


def mean_of(particles: Particles) -> Tensor:
    """(1, *local, d) E_q[z], differentiable."""
    return torch.cat([site.parameters["loc"][:1] for site in particles.latents], -1)


def expected_of(particles: Particles, slope: Tensor, curvature: Tensor) -> Tensor:
    """(1, *local) a function with the gradient of E_q[b] + H(q), differentiable in q.

    Args:
        slope, curvature: Gradient (1, *local, d) and Hessian (1, *local, d, d) of b at the mean, without gradients.
    """
    expected, start = (slope * mean_of(particles)).sum(-1), 0
    for site in particles.latents:
        end = start + site.value.shape[-1]
        part = curvature[..., start:end, start:end]
        expected, start = expected + _of_spread(site, part), end
    return expected


def _of_spread(site: Latent, curvature: Tensor) -> Tensor:
    """(1, *local) a function with the gradient of ½ tr(H L Lᵀ) + log |L| for a site, with H symmetric and L the root of its covariance."""
    if site.family == "normal":
        scale = site.parameters["scale"][:1]
        return (0.5 * curvature.diagonal(dim1=-2, dim2=-1) * scale.square() + scale.log()).sum(-1)
    root = site.parameters["scale_tril"][:1]
    turned = (
        curvature @ root.detach()
    )  # the gradient of the trace, with one product of d³ terms instead of the three that autograd would need
    return (root * turned).sum((-2, -1)) + root.diagonal(dim1=-2, dim2=-1).log().sum(-1)


def _parabola(particles: Particles, middle: Tensor) -> tuple[Tensor, Tensor]:
    """Gradient (1, *local, d) and Hessian (1, *local, d, d) of log p(x, ·), without gradients."""
    middle = middle.requires_grad_()
    log_p, _ = particles.densities(middle)
    (slope,) = torch.autograd.grad(log_p.sum(), middle, create_graph=True)
    rows = [
        torch.autograd.grad(slope[..., i].sum(), middle, retain_graph=True, materialize_grads=True)[0]
        if slope.requires_grad
        else torch.zeros_like(middle)
        for i in range(middle.shape[-1])
    ]
    return slope.detach(), torch.stack(rows, -2)
