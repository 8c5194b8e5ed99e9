"""The importance-weighted bound without reparameterisation."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from ..drawing.particles import Particles
from .base import Estimate, Estimator
from .weights import log_mean_exp, multi_sample_score, others


@dataclass(frozen=True)
class VIMCO(Estimator):
    """The score-function gradient of the importance-weighted bound, each particle with a baseline from the others.

    surrogate = Σ_k sg(v_k) log w̄_k + Σ_k sg(L − L_k) log q(z̄_k|x), v = w / Σ w, L the bound, and L_k the bound with w_k
    replaced by the geometric mean of the others

    Bound: IWAE. Bias: none. Needs: at least two independent particles, no path.

    References:
        Mnih & Rezende 2016, Variational inference for Monte Carlo objectives, arXiv:1602.06725
    """

    num_particles: int = 5

    bound = "IWAE"
    unbiased_for = "IWAE"
    needs = frozenset({"log_p_fixed", "log_q_fixed", "score"})
    min_particles = 2
    independent = True
    reference = "Mnih & Rezende 2016, arXiv:1602.06725"

    def bound_of(self, log_w: Tensor) -> Tensor:
        return log_mean_exp(log_w)

    def estimate(self, particles: Particles) -> Estimate:
        log_w = (particles.log_p_fixed - particles.log_q_fixed).detach()
        k = self.num_particles
        geometric = (log_w.sum(0) - log_w) / (k - 1)
        without = others(log_w, geometric)
        return multi_sample_score(particles, log_w, without)
