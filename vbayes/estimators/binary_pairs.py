"""Gradients of Bernoulli latents from antithetic pairs of draws."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass

from torch import Tensor

from ..drawing.particles import Particles
from ..errors import BadInput
from .base import Estimate, Estimator


@dataclass(frozen=True)
class BinaryPairs(Estimator):
    """Base of estimators with gradients ½ (f(b) − f(b̃)) c, f = log w, from pairs b = 1[u < σ(α)], b̃ = 1[1 − u < σ(α)].

    surrogate = mean over pairs of [½ (log p(x, b) + log p(x, b̃)) + Σ_i sg(½ (log w(b) − log w(b̃)) c_i) α_i]
    """

    num_particles: int = 2

    needs = frozenset({"log_p_fixed", "log_q_fixed", "latents"})
    requires = frozenset({"antithetic_pairs"})
    families = frozenset({"bernoulli"})
    min_particles = 2
    independent = True

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.num_particles % 2:
            raise BadInput(
                f"{type(self).__name__}(num_particles={self.num_particles}) is not valid. Wanted: an even number, as particles come in pairs."
            )

    @abstractmethod
    def factor(self, logits: Tensor, one: Tensor, other: Tensor) -> Tensor:
        """c of each coordinate, from α, b and b̃, all (pairs, *local, own)."""

    def estimate(self, particles: Particles) -> Estimate:
        value = (particles.log_p_fixed - particles.log_q_fixed).detach()
        difference = 0.5 * (value[0::2] - value[1::2]).unsqueeze(-1)
        surrogate = particles.log_p_fixed.mean(0)
        for site in particles.latents:
            logits = site.parameters["logits"][0::2]
            slope = difference * self.factor(logits, site.value[0::2], site.value[1::2])
            surrogate = surrogate + (slope.detach() * logits).sum(-1).mean(0)
        return Estimate(value.mean(0), surrogate)
