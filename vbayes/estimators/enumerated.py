"""Discrete sites summed out, exactly."""

from __future__ import annotations

from dataclasses import dataclass

from ..drawing.particles import Particles
from .base import Estimate, Estimator


@dataclass(frozen=True)
class Enumerated(Estimator):
    """The ELBO with every finite discrete site, of guide and model, summed over its support.

    surrogate = mean_k Σ_b q(b) [log p(x, b, z_k) − log q(b) q(z_k)], pathwise in the continuous z

    Bound: ELBO; sites only in the model are marginalised, which makes it larger. Bias: none, and no noise from discrete
    sites. Needs: model and guide that broadcast as Pyro's enumeration requires. It is Pyro's `TraceEnum_ELBO` with all possible
    sites enumerated in parallel; `strict_enumeration_warning` means the same as there.

    References:
        Obermeyer et al. 2019, Tensor variable elimination for plated factor graphs, arXiv:1902.03210.
    """

    needs = frozenset({"enumerated"})
    reference = "Obermeyer et al. 2019, arXiv:1902.03210"

    def estimate(self, particles: Particles) -> Estimate:
        return Estimate.of(particles.enumerated.mean(0))
