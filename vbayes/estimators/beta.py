"""The ELBO with a different weight on its KL, constant or annealed."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from ..arguments.real import Real
from ..arguments.whole import Whole
from ..drawing.particles import Particles
from .base import Estimate
from .objective import Objective
from .remembering import Remembering


@dataclass(frozen=True)
class Beta(Remembering):
    """`AnalyticKL` with the KL weighted by β, as in the β-VAE; the reported value is still the ELBO.

    surrogate = mean_k log p(x|z_k) − β_t KL, β_t = β min(1, t / warm_up) in step t = 0, 1, …

    Bound: ELBO, for any β. Bias: a different optimum, on purpose. β above 1 pulls q towards the prior and switches off dimensions of z, β below 1 favours reconstruction; a
    warm-up lets the decoder learn to use z before the KL penalises it. Needs: a path and a closed-form KL at every site. With β = 1 it is `AnalyticKL` after the warm-up.

    Args:
        beta: β, at least 0.
        warm_up: Number of steps over which the weight rises from 0 to β; 0 for no warm-up. `Fit.resume` continues it.

    References:
        Higgins et al. 2017, β-VAE; Alemi et al. 2018, Fixing a broken ELBO, arXiv:1711.00464, for what β trades.
        Bowman et al. 2016, arXiv:1511.06349, and Sønderby et al. 2016, arXiv:1602.02282, for the warm-up.
    """

    beta: float = 4.0
    warm_up: int = 0

    unbiased_for = "E_q[ln p(x|z)] − β KL"
    unbiased_in = frozenset()
    needs = frozenset({"log_p", "log_q", "kl"})
    requires = frozenset({"path", "closed_form_kl"})
    reference = "Higgins et al. 2017; Bowman et al. 2016, arXiv:1511.06349"
    remembers = ("steps",)

    limits = {"beta": Real(least=0.0), "warm_up": Whole(0)}

    @property
    def objective(self) -> Objective:
        return Objective(self.unbiased_for, settings=(self.beta, self.warm_up))

    def estimate(self, particles: Particles) -> Estimate:
        expected = particles.log_w.mean(0)
        weighed = self._weight().to(particles.kl) * particles.kl
        return Estimate((expected - particles.kl).detach(), expected - weighed)

    def _weight(self) -> torch.Tensor:
        """Returns β_t and counts the step."""
        steps = self.memory.get_buffer("steps")
        if torch.is_grad_enabled():  # evaluations don't count
            self.memory.steps = steps + 1
        return self.beta * (steps / self.warm_up).clamp(max=1.0) if self.warm_up else torch.full_like(steps, self.beta)
