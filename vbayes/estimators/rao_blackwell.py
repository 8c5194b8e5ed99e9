"""The score function with only the downstream costs of each site."""

from __future__ import annotations

from dataclasses import dataclass

from ..drawing.particles import Particles
from .base import Estimate, Estimator


@dataclass(frozen=True)
class RaoBlackwell(Estimator):
    """Pathwise gradient at reparameterised sites; elsewhere the score function with only the costs downstream of the site, and a baseline.

    surrogate = mean_k [log w_k + Σ_s sg(cost_sk − b_sk) log q_s(z_k)], where cost_s sums the terms of log w that depend on
    the draw of s, within its plates, and b_sk is the mean of the other particles' cost (0 for a single particle)

    Bound: ELBO. Bias: none. Needs: nothing. With one particle and no `infer={"baseline": ...}` it has the costs of
    Pyro's `TraceGraph_ELBO`.

    References:
        Ranganath, Gerrish & Blei 2014, arXiv:1401.0118, section 3.1; Schulman et al. 2015, arXiv:1506.05254.
        Kool, van Hoof & Welling 2019, Buy 4 REINFORCE samples, get a baseline for free!
    """

    num_particles: int = 2

    needs = frozenset({"log_p", "log_q", "scored"})
    requires = frozenset({"downstream_costs"})
    independent = True
    reference = "Ranganath et al. 2014, arXiv:1401.0118, § 3.1"

    def estimate(self, particles: Particles) -> Estimate:
        value = particles.log_w
        surrogate, k = value, self.num_particles
        for site in particles.scored:
            centred = site.cost if k == 1 else (site.cost - site.cost.mean(0)) * (k / (k - 1))
            surrogate = surrogate + ((centred + site.scale) * site.log_q).sum(-1)
        return Estimate(value.detach().mean(0), surrogate.mean(0))
