"""The score function with a relaxation of the model itself as its baseline."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ..arguments.real import Real
from ..drawing.behind import behind
from ..drawing.particles import Particles
from .base import Estimate, Estimator
from .learned import weighted

STRONG = 1e6  # the variance grows like η²: beyond this the gradient is lost in the seven digits of single precision


@dataclass(frozen=True)
class REBAR(Estimator):
    """The score-function gradient of discrete latents with their concrete relaxation as a control variate.

    surrogate = mean_k [log p(x, b̄) + sg(log w(b) − c(z̃)) log q(b̄) + c(z) − c(z̃)], c(z) = η log w(σ(z/τ)), with z = α + logit(u) the
    logistic that b = 1[z > 0] came from and z̃ the same number as a function of b and fresh noise; for one-hot sites Gumbels, and softmax for σ

    Bound: ELBO. Bias: none, for any τ and η. Needs: a guide of Bernoulli or OneHotCategorical sites that are independent given the data, and a model that
    can be evaluated at values in between.

    Args:
        temperature: Temperature of the relaxation, τ.
        strength: Coefficient of the control variate, η, at most 10⁶ in absolute value.

    References:
        Tucker, Mnih, Maddison, Lawson & Sohl-Dickstein 2017, REBAR, arXiv:1703.07370 (with its coupled u and v).
    """

    temperature: float = 0.5
    strength: float = 1.0

    needs = frozenset({"log_p_fixed", "log_q_fixed", "score", "latents", "weigh"})
    families = frozenset({"bernoulli", "one_hot"})
    reference = "Tucker et al. 2017, arXiv:1703.07370"

    limits = {"temperature": Real(above=0.0, given="0.5"), "strength": Real(least=-STRONG, most=STRONG)}

    def estimate(self, particles: Particles) -> Estimate:
        return with_control(particles, lambda z: self.strength * relaxed_log_w(particles, z, self.temperature))


def with_control(particles: Particles, c: Callable[[Sequence[Tensor]], Tensor], *, twice: bool = False) -> Estimate:
    """The score function with a control variate: a function of the noise behind the discrete draws is subtracted, and its own gradient along its path is added.

    As z and z̃ have the same value, c is evaluated once: ∇(c(z) − c(z̃)) = ∂c/∂z ∇(z − z̃).

    Args:
        particles: Particles with everything that `REBAR` needs.
        c: Function from a z for each site, shaped like `Latent.value`, to (K, *local); any function that does not depend on the draw.
        twice: Whether the gradient will be differentiated with respect to the parameters of c.
    """
    value = (particles.log_p_fixed - particles.log_q_fixed).detach()
    if not torch.is_grad_enabled():
        return Estimate(value.mean(0), value.mean(0))
    paths = [behind(site) for site in particles.latents]
    z = [bound.detach().requires_grad_() for _, bound in paths]
    baseline = c(z)
    slopes = torch.autograd.grad(baseline.sum(), z, retain_graph=True, create_graph=twice)
    surrogate = particles.log_p_fixed + weighted(value - baseline, particles.score)
    for (free, bound), slope in zip(paths, slopes, strict=True):
        surrogate = surrogate + weighted(slope, free - bound).flatten(value.dim()).sum(-1)
    return Estimate(value.mean(0), surrogate.mean(0))


def relaxed_log_w(particles: Particles, z: Sequence[Tensor], temperature: Tensor | float) -> Tensor:
    """(K, *local) log w at values between the discrete ones: σ(z/τ), for one-hot sites softmax(z/τ)."""
    squash = {"bernoulli": torch.sigmoid, "one_hot": lambda each: torch.softmax(each, -1)}
    log_p, log_q = particles.weigh(
        [squash[site.family](each / temperature) for site, each in zip(particles.latents, z, strict=True)]
    )
    return log_p - log_q
