"""The doubly reparameterised importance-weighted bound."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from ..drawing.particles import Particles
from .base import Estimate, Estimator
from .weights import log_mean_exp, normalised


@dataclass(frozen=True)
class DReG(Estimator):
    """The doubly reparameterised gradient of the importance-weighted bound.

    surrogate = Σ_k sg(v_k²) [log w_k − log w̄_k] + Σ_k sg(v_k) log p(x, z̄_k), v = w / Σ w; a bar means that z is held constant, so
    only the path remains in the bracket

    Bound: IWAE. Bias: none. Needs: a path at every site, independent particles. The SNR of the guide's gradient grows like
    √K; it has no noise where q is the posterior, and can be worse than `IWAE` far from it. With K = 1 it is `STL`.

    References:
        Tucker, Lawson, Gu & Maddison 2019, Doubly reparameterized gradient estimators, arXiv:1810.04152
    """

    num_particles: int = 5

    bound = "IWAE"
    unbiased_for = "IWAE"
    needs = frozenset({"log_p", "log_q", "log_p_fixed", "log_q_fixed"})
    requires = frozenset({"path"})
    independent = True
    reference = "Tucker et al. 2019, arXiv:1810.04152"

    def bound_of(self, log_w: Tensor) -> Tensor:
        return log_mean_exp(log_w)

    def estimate(self, particles: Particles) -> Estimate:
        value = particles.log_w.detach()
        v = normalised(value)
        path = (particles.log_p - particles.log_p_fixed) - (particles.log_q - particles.log_q_fixed)
        return Estimate(log_mean_exp(value), (v.square() * path + v * particles.log_p_fixed).sum(0))
