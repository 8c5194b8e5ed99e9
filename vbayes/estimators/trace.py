"""Pathwise where a site has a path, score function where it has none: Pyro's `Trace_ELBO`."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from ..drawing.particles import Particles
from .base import Estimate, Estimator


@dataclass(frozen=True)
class Trace(Estimator):
    """Pathwise gradient for reparameterised sites, score-function gradient for the others.

    surrogate = mean_k [log w_k + Σ_s sg(cost_s) log q_s(z_k)], s over the sites without a path; cost_s is the part of
    log w within the plates of s.

    Bound: ELBO. Bias: none. Needs: nothing. Equals `pyro.infer.Trace_ELBO` draw by draw.

    References:
        Ranganath, Gerrish & Blei 2014, Black box variational inference, arXiv:1401.0118, eq. 3.
        Schulman, Heess, Weber & Abbeel 2015, Stochastic computation graphs, arXiv:1506.05254.
    """

    needs = frozenset({"log_p", "log_q", "scored"})
    reference = "Schulman et al. 2015, arXiv:1506.05254"

    def estimate(self, particles: Particles) -> Estimate:
        value = particles.log_w
        return Estimate(value.detach().mean(0), (value + score_terms(particles)).mean(0))


def score_terms(particles: Particles) -> Tensor | float:
    """(K, *local) Σ cost · log q over the sites without a path; 0 if all have one."""
    return sum((((s.cost + s.scale) * s.log_q).sum(-1) for s in particles.scored), start=0.0)
