"""The score function with a relaxation of the model itself as its baseline."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ..arguments.real import Real
from ..drawing.particles import Particles
from .base import Estimate, Estimator

STRONG = 1e6  # the variance grows like η²: more leaves nothing of the gradient in the seven digits of single precision


@dataclass(frozen=True)
class REBAR(Estimator):
    """The gradient of Bernoulli latents with a control variate from their binary concrete relaxation.

    surrogate = mean_k [log p(x, b̄) + sg(log w(b) − η c(z̃)) log q(b̄) + η (c(z) − c(z̃))], c(z) = log w(σ(z/τ)), with z = α + logit(u) the
    logistic that b = 1[z > 0] came from and z̃ the same number as a function of b and fresh noise

    Bound: ELBO. Bias: none, for any τ and η. Needs: a guide of Bernoulli sites that are independent given the data, and a model that can be asked
    about values between 0 and 1.

    Args:
        temperature: τ.
        strength: η, at most 10⁶ either way.

    References:
        Tucker, Mnih, Maddison, Lawson & Sohl-Dickstein 2017, REBAR, arXiv:1703.07370 (with its coupled u and v).
    """

    temperature: float = 0.5
    strength: float = 1.0

    needs = frozenset({"log_p_fixed", "log_q_fixed", "score", "latents", "weigh"})
    families = frozenset({"bernoulli"})
    reference = "Tucker et al. 2017, arXiv:1703.07370"

    limits = {"temperature": Real(above=0.0, given="0.5"), "strength": Real(least=-STRONG, most=STRONG)}

    def estimate(self, particles: Particles) -> Estimate:
        value = (particles.log_p_fixed - particles.log_q_fixed).detach()
        free, bound = [], []
        for site in particles.latents:
            logits = site.parameters["logits"]
            u = uniform_behind(logits, site.value)
            free.append(torch.sigmoid((logits + torch.logit(u.detach())) / self.temperature))
            bound.append(torch.sigmoid((logits + torch.logit(u)) / self.temperature))
        relaxed, conditional = (log_p - log_q for log_p, log_q in map(particles.weigh, (free, bound)))
        centred = value - self.strength * conditional.detach()
        surrogate = particles.log_p_fixed + centred * particles.score + self.strength * (relaxed - conditional)
        return Estimate(value.mean(0), surrogate.mean(0))


def uniform_behind(logits: Tensor, b: Tensor) -> Tensor:
    """u with b = 1[α + logit(u) > 0], drawn given b and live in α.

    Args:
        logits: α.
        b: Zeros and ones, of the same shape.
    """
    off = torch.sigmoid(-logits)  # b = 1 where u > off
    v = torch.rand_like(logits)
    u = torch.where(b > 0.5, off + v * (1 - off), v * off)
    eps = torch.finfo(u.dtype).eps
    return u.clamp(eps, 1 - eps)
