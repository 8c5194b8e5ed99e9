"""The mean of several importance-weighted bounds."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from ..drawing.particles import Particles
from .base import Estimate
from .weights import Grouped, log_mean_exp


@dataclass(frozen=True)
class MIWAE(Grouped):
    """The mean of the importance-weighted bounds of groups of particles.

    surrogate = mean over groups of log (1/K) Σ_k w_k, K = num_particles / groups

    Bound: MIWAE, the IWAE bound of K particles. Bias: none. Needs: a path at every site.

    Args:
        num_particles: Total number of particles in all groups.
        groups: Number of groups, M in the paper.

    References:
        Rainforth et al. 2018, Tighter variational bounds are not necessarily better, arXiv:1802.04537
    """

    bound = "MIWAE"
    unbiased_for = "MIWAE"
    needs = frozenset({"log_p", "log_q"})
    requires = frozenset({"path"})
    reference = "Rainforth et al. 2018, arXiv:1802.04537"

    def bound_of(self, log_w: Tensor) -> Tensor:
        return log_mean_exp(self.grouped(log_w), 1).mean(0)

    def estimate(self, particles: Particles) -> Estimate:
        return Estimate.of(self.bound_of(particles.log_w))
