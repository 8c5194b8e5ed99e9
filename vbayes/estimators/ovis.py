"""VIMCO with a baseline whose signal-to-noise ratio grows with the number of particles."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from ..drawing.particles import Particles
from .base import Estimate, Estimator
from .weights import log_mean_exp, multi_sample_score, others


@dataclass(frozen=True)
class OVIS(Estimator):
    """The score-function gradient of the importance-weighted bound with the baseline that is optimal for many particles.

    surrogate = Σ_k sg(v_k) log w̄_k + Σ_k sg(L − L_k) log q(z̄_k|x), L_k = log (1/K) Σ_{j≠k} w_j

    The score of particle k is then weighted by −log(1 − v_k) − v_k = v_k²/2 + …, of order 1/K², where `VIMCO` leaves a term of order 1/K.
    The SNR of the guide's gradient therefore grows like √K, as for `DReG`, but without a path.

    Bound: IWAE. Bias: none. Needs: at least two independent particles.

    References:
        Liévin, Dittadi, Christensen & Winther 2020, Optimal variance control of the score-function gradient estimator for
        importance-weighted bounds, arXiv:2008.01998 (OVIS~ with γ = 1).
    """

    num_particles: int = 5

    bound = "IWAE"
    unbiased_for = "IWAE"
    needs = frozenset({"log_p_fixed", "log_q_fixed", "score"})
    min_particles = 2
    independent = True
    reference = "Liévin et al. 2020, arXiv:2008.01998"

    def bound_of(self, log_w: Tensor) -> Tensor:
        return log_mean_exp(log_w)

    def estimate(self, particles: Particles) -> Estimate:
        log_w = (particles.log_p_fixed - particles.log_q_fixed).detach()
        return multi_sample_score(particles, log_w, others(log_w))
