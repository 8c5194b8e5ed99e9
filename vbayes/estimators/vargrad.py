"""The gradient of half the variance of the log-weights."""

from __future__ import annotations

from dataclasses import dataclass

from ..drawing.particles import Particles
from .base import Estimate, Estimator


@dataclass(frozen=True)
class VarGrad(Estimator):
    """The gradient of the log-variance loss: the score function with a leave-one-out baseline, as in RLOO.

    surrogate = mean_k log p(x, z̄_k) − ½ var_k(log w_k), with the unbiased variance (K − 1), and log w differentiated only through log q(z̄_k|x)

    Bound: ELBO. Bias: none. Needs: at least two particles. Draw by draw it equals `RLOO`.

    References:
        Richter, Boustati, Nüsken, Ruiz & Akyildiz 2020, VarGrad, arXiv:2010.10436
    """

    num_particles: int = 2

    needs = frozenset({"log_p_fixed", "log_q_fixed", "score"})
    min_particles = 2
    independent = True
    reference = "Richter et al. 2020, arXiv:2010.10436"

    def estimate(self, particles: Particles) -> Estimate:
        value = (particles.log_p_fixed - particles.log_q_fixed).detach()
        # The value is log w; the gradient is −∇ log q, without the scale of a minibatch.
        live = value - (particles.score - particles.score.detach())
        return Estimate(value.mean(0), particles.log_p_fixed.mean(0) - 0.5 * live.var(0))
