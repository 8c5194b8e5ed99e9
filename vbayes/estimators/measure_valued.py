"""Measure-valued derivatives: gradients as differences of two expectations."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from ..drawing.particles import Latent, Particles
from .base import Estimate, Estimator


@dataclass(frozen=True)
class MeasureValued(Estimator):
    """Measure-valued derivatives, coordinate by coordinate, for Gaussian, Bernoulli and Categorical latents.

    For one coordinate, the others as drawn: ∂E[f]/∂μ = E[f(μ + σr) − f(μ − σr)] / (σ√(2π)), r of density r exp(−r²/2);
    ∂E[f]/∂σ = E[f(μ + σm) − f(μ + σmu)] / σ, m of density m² exp(−m²/2)/√(2π) on both sides, u uniform, so that mu is standard normal; ∂E[f]/∂p = f(1) − f(0),
    of each category ∂E[f]/∂p_c = f(c); f = log w.
    surrogate = mean_k [log p(x, z̄_k) + Σ sg(these) · (μ, σ, p)]

    Bound: ELBO. Bias: none. Needs: a guide of Normal, Bernoulli or Categorical sites that are independent given the data. It costs one evaluation of the
    model for each value of a discrete coordinate and four for each Gaussian one; its variance is low even if f is not differentiable. For discrete latents it gives local
    expectation gradients.

    References:
        Mohamed, Rosca, Figurnov & Mnih 2020, Monte Carlo gradient estimation, arXiv:1906.10652.
        Titsias & Lázaro-Gredilla 2015, Local expectation gradients, arXiv:1503.01494.
    """

    needs = frozenset({"log_p_fixed", "log_q_fixed", "latents", "weigh"})
    families = frozenset({"normal", "bernoulli", "categorical"})
    reference = "Mohamed et al. 2020, arXiv:1906.10652"

    def estimate(self, particles: Particles) -> Estimate:
        value = (particles.log_p_fixed - particles.log_q_fixed).detach()
        values = [site.value for site in particles.latents]
        surrogate = particles.log_p_fixed
        for place, site in enumerate(particles.latents):
            for i in range(site.value.shape[-1]):

                def f(new: Tensor, place: int = place, i: int = i) -> Tensor:
                    changed = values[place].clone()
                    changed[..., i] = new
                    with torch.no_grad():
                        log_p, log_q = particles.weigh([*values[:place], changed, *values[place + 1 :]])
                    return log_p - log_q

                for parameter, slope in _slopes(site, i, f):
                    surrogate = surrogate + slope.detach() * parameter
        return Estimate(value.mean(0), surrogate.mean(0))


def _slopes(site: Latent, i: int, f) -> Iterator[tuple[Tensor, Tensor]]:  # type: ignore[no-untyped-def]
    """A parameter of coordinate i, (K, *local), and the derivative of E[f] with respect to it, for each of them."""
    if site.family == "bernoulli":
        probability = torch.sigmoid(site.parameters["logits"][..., i])
        one = torch.ones_like(probability)
        yield probability, f(one) - f(one - one)
        return
    if site.family == "categorical":
        for c, probability in enumerate(site.parameters["logits"][..., i, :].softmax(-1).unbind(-1)):
            yield probability, f(torch.full_like(site.value[..., i], c))
        return
    loc, scale = (site.parameters[name][..., i] for name in ("loc", "scale"))
    mu, sigma = loc.detach(), scale.detach()
    r = (2 * _exponential(mu)).sqrt()
    yield loc, (f(mu + sigma * r) - f(mu - sigma * r)) / (sigma * math.sqrt(2 * math.pi))
    # m² is χ² with three degrees of freedom: twice an exponential and a normal's square.
    m = (2 * _exponential(mu) + torch.randn_like(mu).square()).sqrt() * (2.0 * (torch.rand_like(mu) < 0.5) - 1)
    yield scale, (f(mu + sigma * m) - f(mu + sigma * m * torch.rand_like(mu))) / sigma


def _exponential(like: Tensor) -> Tensor:
    return -torch.log1p(-torch.rand_like(like).clamp(min=torch.finfo(like.dtype).tiny))
