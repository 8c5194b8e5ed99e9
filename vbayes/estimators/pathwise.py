"""The reparameterisation trick."""

from __future__ import annotations

from dataclasses import dataclass

from ..drawing.particles import Particles
from .base import Estimate, Estimator


@dataclass(frozen=True)
class Pathwise(Estimator):
    """The pathwise (reparameterisation) gradient, through z = g(ε, x).

    surrogate = mean_k [log p(x, z_k) − log q(z_k|x)]

    Bound: ELBO. Bias: none. Needs: a reparameterised path at every site.

    References:
        Kingma & Welling 2013, Auto-encoding variational Bayes, arXiv:1312.6114, eq. 6 (estimator A).
        Rezende, Mohamed & Wierstra 2014, arXiv:1401.4082.
    """

    needs = frozenset({"log_p", "log_q"})
    requires = frozenset({"path"})
    reference = "Kingma & Welling 2013, arXiv:1312.6114, eq. 6"

    def estimate(self, particles: Particles) -> Estimate:
        return Estimate.of(particles.log_w.mean(0))
