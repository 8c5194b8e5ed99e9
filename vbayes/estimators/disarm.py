"""Antithetic pairs of binary draws, with what their noise says integrated out."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from ..drawing.particles import Particles
from ..errors import BadInput
from .base import Estimate, Estimator


@dataclass(frozen=True)
class DisARM(Estimator):
    """The gradient of Bernoulli latents from pairs of draws b = 1[u < σ(α)], b̃ = 1[1 − u < σ(α)].

    surrogate = mean over pairs of [½ (log p(x, b) + log p(x, b̃)) + Σ_i sg(½ (log w(b) − log w(b̃)) (−1)^b̃_i 1[b_i ≠ b̃_i] σ(|α_i|)) α_i]

    Bound: ELBO. Bias: none. Needs: a guide of Bernoulli sites that are independent given the data, an even number of particles. Coordinates in
    which the two agree have no gradient, and no noise.

    References:
        Dong, Mnih & Tucker 2020, DisARM, arXiv:2006.10680; Yin, Ho, Yan, Qian & Zhou 2020 (U2G).
    """

    num_particles: int = 2

    needs = frozenset({"log_p_fixed", "log_q_fixed", "latents"})
    requires = frozenset({"antithetic_pairs"})
    families = frozenset({"bernoulli"})
    min_particles = 2
    independent = True
    reference = "Dong, Mnih & Tucker 2020, arXiv:2006.10680"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.num_particles % 2:
            raise BadInput(
                f"DisARM(num_particles={self.num_particles}) won't do. Wanted: an even number, as they come in pairs."
            )

    def estimate(self, particles: Particles) -> Estimate:
        value = (particles.log_p_fixed - particles.log_q_fixed).detach()
        difference = 0.5 * (value[0::2] - value[1::2])
        surrogate = particles.log_p_fixed.mean(0)
        for site in particles.latents:
            logits = site.parameters["logits"][0::2]
            one, other = site.value[0::2], site.value[1::2]
            chance = torch.where(one != other, torch.sigmoid(logits.abs()), 0.0) * (1 - 2 * other)
            surrogate = surrogate + ((difference.unsqueeze(-1) * chance).detach() * logits).sum(-1).mean(0)
        return Estimate(value.mean(0), surrogate)
