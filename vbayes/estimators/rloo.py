"""The score function with the other particles as a baseline, at no extra cost."""

from __future__ import annotations

from dataclasses import dataclass

from ..drawing.particles import Particles
from .base import Estimate, Estimator


@dataclass(frozen=True)
class RLOO(Estimator):
    """The score-function gradient with a leave-one-out baseline.

    surrogate = mean_k [log p(x, z̄_k) + sg(log w_k − b_k) log q(z̄_k|x)], b_k = mean of the other log w

    Bound: ELBO. Bias: none, since b_k is independent of z_k. Needs: at least two independent particles.

    References:
        Salimans & Knowles 2014, arXiv:1401.1022; Kool, van Hoof & Welling 2019, Buy 4 REINFORCE samples, get a baseline
        for free!
    """

    num_particles: int = 2

    needs = frozenset({"log_p_fixed", "log_q_fixed", "score"})
    min_particles = 2
    independent = True
    reference = "Kool, van Hoof & Welling 2019"

    def estimate(self, particles: Particles) -> Estimate:
        value = (particles.log_p_fixed - particles.log_q_fixed).detach()
        k = self.num_particles
        # log w_k minus the mean of the others, which is k/(k−1) times log w_k minus the mean of all.
        centred = (value - value.mean(0)) * (k / (k - 1))
        return Estimate(value.mean(0), (particles.log_p_fixed + centred * particles.score).mean(0))
