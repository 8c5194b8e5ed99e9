"""Differentiable annealed importance sampling."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ..arguments.real import Real
from ..arguments.whole import Whole
from ..drawing.particles import Particles
from .base import Estimate, Estimator
from .objective import Objective


@dataclass(frozen=True)
class DAIS(Estimator):
    """Differentiable annealed importance sampling: a bound from draws that Hamiltonian steps move from the guide towards the posterior.

    surrogate = mean_k [log p(x, z_T) − log q(z_0|x) + Σ_t log N(v̂_t; 0, 1) − log N(v_t−1; 0, 1)], where a leapfrog step on β_t log p(x, z) + (1 − β_t) log q(z|x), β_t = t/T,
    takes (z_t−1, v_t−1) to (z_t, v̂_t), and v_t = γ v̂_t + √(1 − γ²) ε_t

    Bound: DAIS ≤ log p(x); without steps it is the ELBO, with many it is closer to log p(x), with few it may be below the ELBO. Bias: none. Needs: a path at every site, and log q at given values. It costs two more gradients of guide and model
    per step, in time and memory. z is unconstrained; steps longer than twice the smallest sd of the posterior diverge.

    Args:
        steps: Number of steps, T.
        step_size: Size of a leapfrog step, in the units of z.
        momentum: γ, the fraction of the velocity kept from one step to the next, from 0 to 1.

    References:
        Zhang, Hsu, Li, Finn & Grosse 2021, Differentiable annealed importance sampling and the perils of gradient noise, arXiv:2107.10211, algorithm 1.
        Geffner & Domke 2021, MCMC variational inference via uncorrected Hamiltonian annealing, arXiv:2107.04150.
    """

    steps: int = 8
    step_size: float = 0.1
    momentum: float = 0.9

    bound = "DAIS"
    unbiased_for = "DAIS"
    needs = frozenset({"z", "densities"})
    requires = frozenset({"path"})
    reference = "Zhang et al. 2021, arXiv:2107.10211"

    limits = {
        "steps": Whole(0), "step_size": Real(above=0.0, given="0.1"), "momentum": Real(least=0.0, most=1.0, given="0.9"),
    }  # fmt: skip

    @property
    def objective(self) -> Objective:
        settings = (self.steps, self.step_size, self.momentum)
        return Objective(f"DAIS bound of {self.steps} steps", settings=settings)

    def sizes(self) -> Sequence[float | Tensor]:
        """Sizes of the T steps."""
        return (self.step_size,) * self.steps

    def estimate(self, particles: Particles) -> Estimate:
        z = particles.z
        _, log_q = particles.densities(z)
        velocity, gained = torch.randn_like(z), -log_q
        for step, size in enumerate(self.sizes(), start=1):
            z = z + 0.5 * size * velocity
            after = velocity + size * _slope(particles, z, step / self.steps)
            z = z + 0.5 * size * after
            gained = gained + 0.5 * (velocity.square() - after.square()).sum(-1)
            velocity = self.momentum * after + (1 - self.momentum**2) ** 0.5 * torch.randn_like(z)
        log_p, _ = particles.densities(z)
        return Estimate.of((gained + log_p).mean(0))


def _slope(particles: Particles, z: Tensor, share: float) -> Tensor:
    """(K, *local, d) gradient of a mixture of log p and log q with respect to z, differentiable."""
    live = torch.is_grad_enabled()
    with torch.enable_grad():  # type: ignore[no-untyped-call]
        z = z if z.requires_grad else z.detach().requires_grad_()
        log_p, log_q = particles.densities(z)
        (slope,) = torch.autograd.grad((share * log_p + (1 - share) * log_q).sum(), z, create_graph=live)
    return slope
