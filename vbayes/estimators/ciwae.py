"""Between the ELBO and the importance-weighted bound."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from ..arguments.real import PROBABILITY
from ..drawing.particles import Particles
from .base import Estimate, Estimator
from .weights import log_mean_exp


@dataclass(frozen=True)
class CIWAE(Estimator):
    """A convex combination of the ELBO and the importance-weighted bound.

    surrogate = β mean_k log w_k + (1 − β) log (1/K) Σ_k w_k

    Bound: CIWAE. Bias: none. Needs: a path at every site.

    Args:
        beta: β in [0, 1]; 0 is `IWAE`, 1 is `Pathwise`.

    References:
        Rainforth et al. 2018, arXiv:1802.04537
    """

    num_particles: int = 5
    beta: float = 0.5

    bound = "CIWAE"
    unbiased_for = "CIWAE"
    needs = frozenset({"log_p", "log_q"})
    requires = frozenset({"path"})
    reference = "Rainforth et al. 2018, arXiv:1802.04537"

    limits = {"beta": PROBABILITY}

    def bound_of(self, log_w: Tensor) -> Tensor:
        return self.beta * log_w.mean(0) + (1 - self.beta) * log_mean_exp(log_w)

    def estimate(self, particles: Particles) -> Estimate:
        return Estimate.of(self.bound_of(particles.log_w))
