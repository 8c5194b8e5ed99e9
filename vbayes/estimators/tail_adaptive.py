"""An f-divergence that adapts to the tail of the importance weights."""

from __future__ import annotations

from dataclasses import dataclass

from ..arguments.real import Real
from ..drawing.particles import Particles
from .base import Estimate, Estimator
from .objective import Objective


@dataclass(frozen=True)
class TailAdaptive(Estimator):
    """A mass-covering f-divergence that adapts to the tail of the importance weights, with finite variance.

    surrogate = Σ_k sg(γ_k) [log p(x, z_k) − (log q(z_k|x) − log q(z̄_k|x))], γ_k ∝ (#{j: w_j ≥ w_k} / K)^β

    Bound: its value is the ELBO; the objective has no fixed value, since f changes with every draw. Bias: for each set of K draws the direction is that of an f-divergence;
    nothing more is claimed. Needs: a path at every site. The largest weight counts K times as much as the smallest, whatever their sizes.

    Args:
        beta: β, from −1 (the paper's) to 0, which is `STL`.

    References:
        Wang, Liu & Liu 2018, Variational inference with tail-adaptive f-divergence, arXiv:1810.11943, algorithm 1.
    """

    num_particles: int = 32
    beta: float = -1.0

    unbiased_for = "nothing; an f-divergence for each draw"
    unbiased_in = frozenset()
    needs = frozenset({"log_p", "log_q", "log_q_fixed"})
    requires = frozenset({"path"})
    min_particles = 2
    independent = True
    reference = "Wang, Liu & Liu 2018, arXiv:1810.11943"

    limits = {"beta": Real(most=0.0, given="-1.0")}

    @property
    def objective(self) -> Objective:
        return Objective("tail-adaptive f-divergence", settings=(self.num_particles, self.beta))

    def estimate(self, particles: Particles) -> Estimate:
        log_w = particles.log_w
        value = log_w.detach()
        tail = (
            (value.unsqueeze(0) >= value.unsqueeze(1)).to(value.dtype).mean(1)
        )  # (K, *local): 1/K for the largest weight
        gamma = tail**self.beta
        path = particles.log_p - (particles.log_q - particles.log_q_fixed)
        return Estimate(value.mean(0), (gamma / gamma.sum(0) * path).sum(0))
