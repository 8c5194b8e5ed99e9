"""The path gradient."""

from __future__ import annotations

from dataclasses import dataclass

from ..drawing.particles import Particles
from .base import Estimate, Estimator


@dataclass(frozen=True)
class PathGradient(Estimator):
    """Sticking the landing without evaluating q at given values, for flows whose inverse is slow or unknown.

    surrogate = mean_k [log p(x, z̄_k) + sg(∇_z log p(x, z_k) − ∇_z log q(z_k|x)) · z_k], z̄ held constant

    Bound: ELBO. Bias: none. Needs: a path at every site. Draw by draw it equals `STL`, where `STL` can be computed.

    References:
        Vaitl, Nicoli, Nakajima & Kessel 2022, Gradients should stay on path, arXiv:2207.08219, eq. 8.
        Roeder, Wu & Duvenaud 2017, arXiv:1703.09194.
    """

    needs = frozenset({"log_q", "log_p_fixed", "z", "score_p", "score_q"})
    requires = frozenset({"path"})
    reference = "Vaitl et al. 2022, arXiv:2207.08219"

    def estimate(self, particles: Particles) -> Estimate:
        slope = (particles.score_p - particles.score_q).detach()
        surrogate = particles.log_p_fixed + (slope * particles.z).sum(-1)
        return Estimate((particles.log_p_fixed - particles.log_q).detach().mean(0), surrogate.mean(0))
