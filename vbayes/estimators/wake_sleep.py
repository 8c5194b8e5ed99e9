"""Reweighted wake-sleep."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from ..drawing.particles import Particles
from .base import Estimate, Estimator
from .objective import Objective, apart
from .weights import log_mean_exp, normalised


@dataclass(frozen=True)
class WakeSleep(Estimator):
    """Reweighted wake-sleep: the model maximises the importance-weighted bound, and the guide minimises KL(p ‖ q) as estimated from the weighted particles.

    surrogate = Σ_k sg(v_k) [log p(x, z̄_k) + log q(z̄_k|x)], v = w / Σ w

    Bound: IWAE. Bias: none for the model. The guide descends KL(p(z|x) ‖ q(z|x)), not the bound, with a bias of order 1/K from
    the normalised weights. Needs: nothing; discrete sites are supported. (This is the wake-phase update of the guide.)

    References:
        Bornschein & Bengio 2015, Reweighted wake-sleep, arXiv:1406.2751; Le et al. 2019, arXiv:1805.10469.
    """

    num_particles: int = 5

    bound = "IWAE"
    unbiased_for = "IWAE (model)"
    unbiased_in = frozenset({"model"})
    needs = frozenset({"log_p_fixed", "log_q_fixed"})
    independent = True
    reference = "Bornschein & Bengio 2015, arXiv:1406.2751"

    @property
    def objective(self) -> Objective:
        k = self.num_particles
        return apart(
            f"IWAE bound of {k} particles in the model, KL(p ‖ q) in the guide",
            model=lambda table: table.expected(self.bound_of, k),
            guide=lambda table: -table.forward_kl(),
        )

    def bound_of(self, log_w: Tensor) -> Tensor:
        return log_mean_exp(log_w)

    def estimate(self, particles: Particles) -> Estimate:
        value = (particles.log_p_fixed - particles.log_q_fixed).detach()
        surrogate = (normalised(value) * (particles.log_p_fixed + particles.log_q_fixed)).sum(0)
        return Estimate(log_mean_exp(value), surrogate)
