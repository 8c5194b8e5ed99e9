"""A tight bound for the model, and a looser one for the guide."""

from __future__ import annotations

from dataclasses import dataclass, replace

from torch import Tensor

from ..drawing.particles import Particles
from .base import Estimate
from .objective import Objective, apart
from .weights import Grouped, log_mean_exp, normalised


@dataclass(frozen=True)
class PIWAE(Grouped):
    """The importance-weighted bound of all particles for the model, and the mean bound of groups of particles for the guide.

    surrogate = Σ_k sg(v_k) log p(x, z̄_k) + mean over groups of Σ_k sg(u_k) [log p(x, z_k) − log p(x, z̄_k) − log q(z_k|x)], v normalised
    over all particles, u within a group

    Bound: IWAE of all particles, which is the model's objective; the guide's is that of `MIWAE`. Bias: none. Needs: a path at every site.

    Args:
        num_particles: Total number of particles in all groups.
        groups: Number of groups, M in the paper.

    References:
        Rainforth et al. 2018, arXiv:1802.04537
    """

    bound = "IWAE"
    unbiased_for = "IWAE (model), MIWAE (guide)"
    needs = frozenset({"log_p", "log_q", "log_p_fixed"})
    requires = frozenset({"path"})
    reference = "Rainforth et al. 2018, arXiv:1802.04537"

    @property
    def objective(self) -> Objective:
        each = self.num_particles // self.groups
        found = apart(
            f"IWAE bound of {self.num_particles} particles in the model, of {each} in the guide",
            model=lambda table: table.expected(log_mean_exp, self.num_particles),
            guide=lambda table: table.expected(log_mean_exp, each),
        )
        of_draws = log_mean_exp, lambda log_w: log_mean_exp(self.grouped(log_w), 1).mean(0)
        if self.noise == "iid":
            return replace(found, of_draws=of_draws)
        return Objective(f"{found.name}, {self.noise}", of_draws=of_draws)  # dependent particles are not tabulated

    def bound_of(self, log_w: Tensor) -> Tensor:
        return log_mean_exp(log_w)

    def estimate(self, particles: Particles) -> Estimate:
        value = particles.log_w.detach()
        model = (normalised(value) * particles.log_p_fixed).sum(0)
        path = particles.log_p - particles.log_p_fixed - particles.log_q
        guide = (normalised(self.grouped(value), 1) * self.grouped(path)).sum(1).mean(0)
        return Estimate(log_mean_exp(value), model + guide)
