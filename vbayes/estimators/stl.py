"""Sticking the landing."""

from __future__ import annotations

from dataclasses import dataclass

from ..drawing.particles import Particles
from .base import Estimate, Estimator


@dataclass(frozen=True)
class STL(Estimator):
    """The pathwise gradient without its score term, whose mean is zero.

    surrogate = mean_k [log p(x, z_k) − (log q(z_k|x) − log q(z̄_k|x))], z̄ held constant

    Bound: ELBO. Bias: none. Needs: a path at every site. Its variance is zero where q is the posterior, so its
    advantage grows towards the optimum; far from it, it can be worse than `Pathwise`.

    References:
        Roeder, Wu & Duvenaud 2017, Sticking the landing, arXiv:1703.09194, eq. 8.
    """

    needs = frozenset({"log_p", "log_q", "log_q_fixed"})
    requires = frozenset({"path"})
    reference = "Roeder, Wu & Duvenaud 2017, arXiv:1703.09194"

    def estimate(self, particles: Particles) -> Estimate:
        value = particles.log_w
        # log q(z̄|x) has the same value and a different gradient: the difference below is zero, and its gradient is that along the path.
        surrogate = particles.log_p - (particles.log_q - particles.log_q_fixed)
        return Estimate(value.detach().mean(0), surrogate.mean(0))
