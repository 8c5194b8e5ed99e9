"""The importance-weighted bound."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from ..drawing.particles import Particles
from .base import Estimate, Estimator
from .weights import log_mean_exp


@dataclass(frozen=True)
class IWAE(Estimator):
    """The importance-weighted bound with its pathwise gradient.

    surrogate = log (1/K) Σ_k w_k

    Bound: IWAE, which grows towards log p(x) with K. Bias: none. Needs: a path at every site. The signal-to-noise ratio of the guide's
    gradient falls with the number of particles: SNR ~ 1/√K (Rainforth et al. 2018, arXiv:1802.04537).

    References:
        Burda, Grosse & Salakhutdinov 2015, Importance weighted autoencoders, arXiv:1509.00519
    """

    num_particles: int = 5

    bound = "IWAE"
    unbiased_for = "IWAE"
    needs = frozenset({"log_p", "log_q"})
    requires = frozenset({"path"})
    reference = "Burda et al. 2015, arXiv:1509.00519"

    def bound_of(self, log_w: Tensor) -> Tensor:
        return log_mean_exp(log_w)

    def estimate(self, particles: Particles) -> Estimate:
        return Estimate.of(log_mean_exp(particles.log_w))
