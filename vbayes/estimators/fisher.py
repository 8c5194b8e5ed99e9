"""The Fisher divergence: matching of scores."""

from __future__ import annotations

from dataclasses import dataclass

from ..drawing.particles import Particles
from ..exact.table import Table
from .base import Estimate, Estimator
from .objective import Objective


@dataclass(frozen=True)
class Fisher(Estimator):
    """The Fisher divergence between q and the posterior, minimised: it compares gradients of log densities, so the evidence is not needed.

    surrogate = mean_k ‖∇_z log p(x, z_k) − ∇_z log q(z_k|x)‖², lowered by training

    Bound: none; its value is the divergence, 0 where q is the posterior. Bias: none. Needs: a path at every site. z is unconstrained, and the divergence is that in this space: unlike
    KL it depends on the scale of each latent. It hardly notices the relative mass of distant modes, and parameters of the model are fitted to q, not to the data.

    References:
        Yang, Martin & Bondell 2019, Variational approximations using Fisher divergence, arXiv:1905.05284.
    """

    bound = "Fisher divergence"
    unbiased_for = "Fisher divergence"
    needs = frozenset({"score_p", "score_q"})
    requires = frozenset({"path"})
    reference = "Yang, Martin & Bondell 2019, arXiv:1905.05284"

    @property
    def objective(self) -> Objective:
        return Objective(self.bound, Table.fisher, ascend=False)

    def estimate(self, particles: Particles) -> Estimate:
        return Estimate.of((particles.score_p - particles.score_q).square().sum(-1).mean(0))
