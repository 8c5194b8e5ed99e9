"""Continuous relaxation of discrete draws."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ..arguments.real import Real
from ..drawing.behind import uniform_behind
from ..drawing.particles import Latent, Particles
from .base import Estimate, Estimator


@dataclass(frozen=True)
class GumbelSoftmax(Estimator):
    """The pathwise gradient through a continuous relaxation of the discrete draws; biased.

    surrogate = mean_k log w(b̂_k), b̂ = σ((α + logit(u))/τ) for Bernoulli sites, softmax((α + g)/τ) with Gumbel g for one-hot ones

    Bound: ELBO, whose value is that of the discrete draws. Bias: vanishes with τ, while the variance grows like 1/τ. Needs: a guide of Bernoulli or
    OneHotCategorical sites that are independent given the data, and a model that can be evaluated at values in between.

    Args:
        temperature: Temperature, τ.

    References:
        Jang, Gu & Poole 2017, arXiv:1611.01144; Maddison, Mnih & Teh 2017, arXiv:1611.00712.
    """

    temperature: float = 0.5

    unbiased_for = "the relaxed ELBO"
    unbiased_in = frozenset()
    needs = frozenset({"log_p_fixed", "log_q_fixed", "latents", "weigh"})
    families = frozenset({"bernoulli", "one_hot"})
    reference = "Jang, Gu & Poole 2017, arXiv:1611.01144"

    limits = {"temperature": Real(above=0.0, given="0.5")}

    def estimate(self, particles: Particles) -> Estimate:
        value = (particles.log_p_fixed - particles.log_q_fixed).detach()
        log_p, log_q = particles.weigh([self._relaxed(site) for site in particles.latents])
        return Estimate(value.mean(0), (log_p - log_q).mean(0))

    def _relaxed(self, site: Latent) -> Tensor:
        logits = site.parameters["logits"]
        if site.family == "bernoulli":
            return torch.sigmoid((logits + torch.logit(uniform_behind(logits, site.value).detach())) / self.temperature)
        tiny = torch.finfo(logits.dtype).tiny
        gumbel = -torch.log(-torch.log(torch.rand_like(logits).clamp(min=tiny)).clamp(min=tiny))
        return torch.softmax((logits + gumbel) / self.temperature, -1)
