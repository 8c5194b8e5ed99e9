"""The score-function gradient without a baseline."""

from __future__ import annotations

from dataclasses import dataclass

from ..drawing.particles import Particles
from .base import Estimate, Estimator


@dataclass(frozen=True)
class Score(Estimator):
    """The score-function (REINFORCE) gradient, without a baseline.

    surrogate = mean_k [log p(x, z̄_k) + sg(log w_k) log q(z̄_k|x)], z̄ held constant

    Bound: ELBO. Bias: none. Needs: nothing, not even a path; but the variance is high.

    References:
        Williams 1992, Simple statistical gradient-following algorithms.
        Paisley, Blei & Jordan 2012, arXiv:1206.6430; Ranganath, Gerrish & Blei 2014, arXiv:1401.0118.
    """

    needs = frozenset({"log_p_fixed", "log_q_fixed", "score"})
    reference = "Paisley, Blei & Jordan 2012, arXiv:1206.6430"

    def estimate(self, particles: Particles) -> Estimate:
        value = (particles.log_p_fixed - particles.log_q_fixed).detach()
        return Estimate(value.mean(0), (particles.log_p_fixed + value * particles.score).mean(0))
