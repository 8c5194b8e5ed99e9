"""Differentiable annealed importance sampling with learned step sizes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor, nn

from ..drawing.particles import Particles
from .base import Estimate
from .dais import DAIS
from .learned import Learned
from .objective import Objective


@dataclass(frozen=True)
class LearnedDAIS(Learned, DAIS):
    """`DAIS` with learned step sizes, one for each step and each number in z, which maximise its bound along with model and guide.

    surrogate = that of `DAIS`, with η_t ⊙ instead of the step size, so that each direction has its own step size

    Bound: DAIS ≤ log p(x), for any step sizes, which are constants in the gradient of model and guide. Bias: none, at the current step sizes. Needs: a path at every site, and
    log q at given values. It starts as `DAIS`, and remains so with rate=0; it can't learn from steps that diverge, so start with short ones.

    Args:
        step_size: Initial size of all steps.
        rate: Learning rate of the logarithms of the step sizes.

    References:
        Zhang, Hsu, Li, Finn & Grosse 2021, arXiv:2107.10211; Geffner & Domke 2021, arXiv:2107.04150, section 4, tunes step sizes by the bound.
    """

    rate: float = field(default=0.01, kw_only=True)

    reference = "Geffner & Domke 2021, arXiv:2107.04150"

    limits = {**Learned.limits, **DAIS.limits}

    @property
    def objective(self) -> Objective:
        return Objective(f"DAIS bound of {self.steps} steps of learned size", settings=(self.steps, self.momentum))

    def module(self, particles: Particles) -> nn.Module:
        return StepSizes(self.steps, particles.z.shape[-1], self.step_size)

    def sizes(self) -> Sequence[Tensor]:
        network: Any = self.network
        return network.log_sizes.exp().unbind()

    def estimate(self, particles: Particles) -> Estimate:
        found = super().estimate(particles)
        return replace(found, auxiliary=-found.surrogate)


class StepSizes(nn.Module):
    """Logarithms of (T, d) step sizes.

    Args:
        steps: T.
        numbers: d.
        start: Initial size of all steps.
    """

    def __init__(self, steps: int, numbers: int, start: float) -> None:
        super().__init__()
        self.log_sizes = nn.Parameter(torch.full((steps, numbers), math.log(start), device="cpu"))
