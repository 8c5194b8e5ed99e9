"""The score function with a learned control variate: a relaxation of the model plus a network."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from ..arguments.real import Real
from ..arguments.whole import Whole
from ..drawing.particles import Particles
from .base import Estimate
from .learned import Learned
from .rebar import REBAR, relaxed_log_w, with_control


@dataclass(frozen=True)
class RELAX(Learned):
    """The score-function gradient of discrete latents with a control variate that is trained to minimise the variance.

    surrogate = mean_k [log p(x, b̄) + sg(log w(b) − c(z̃)) log q(b̄) + c(z) − c(z̃)], c(z) = η log w(σ(z/τ)) + r(z, α), z and z̃ as in `REBAR`; η, τ and the network r are trained
    to minimise the squared norm of the gradient

    Bound: ELBO. Bias: none, for any c. Needs: a guide of Bernoulli or OneHotCategorical sites that are independent given the data, and a model that can be evaluated
    at values in between and has second derivatives there. It starts as `REBAR` with η = 1.

    Args:
        temperature: Initial temperature, τ.
        hidden: Units in the one hidden layer of r, whose inputs are z and the logits α of q(z|x).
        rate: Learning rate of the control variate.

    References:
        Grathwohl, Choi, Wu, Roeder & Duvenaud 2018, Backpropagation through the void, arXiv:1711.00123, eq. 6 to 10.
    """

    temperature: float = 0.5
    hidden: int = 20

    needs = REBAR.needs
    families = REBAR.families
    reference = "Grathwohl et al. 2018, arXiv:1711.00123"

    limits = {**Learned.limits, "temperature": Real(above=0.0, given="0.5"), "hidden": Whole(1)}

    def module(self, particles: Particles) -> nn.Module:
        width = _seen(particles, [site.value for site in particles.latents]).shape[-1]
        return ControlVariate(width, self.hidden, self.temperature)

    def estimate(self, particles: Particles) -> Estimate:
        network: Any = self.network

        def c(z: Sequence[Tensor]) -> Tensor:
            beside = network(_seen(particles, z))
            return beside + network.strength * relaxed_log_w(particles, z, network.log_temperature.exp())

        return with_control(particles, c, twice=True)


class ControlVariate(nn.Module):
    """r, with η and log τ; r is zero before it is trained.

    Args:
        width: Number of inputs for each draw and datum.
        hidden: Number of hidden units.
        temperature: Initial temperature τ.
    """

    def __init__(self, width: int, hidden: int, temperature: float) -> None:
        super().__init__()
        self.inside, self.outside = nn.Linear(width, hidden, device="cpu"), nn.Linear(hidden, 1, device="cpu")
        nn.init.zeros_(self.outside.weight)
        nn.init.zeros_(self.outside.bias)
        self.strength = nn.Parameter(torch.ones((), device="cpu"))
        self.log_temperature = nn.Parameter(torch.tensor(math.log(temperature), device="cpu"))

    def forward(self, seen: Tensor) -> Tensor:
        """(K, *local, width) → (K, *local)."""
        hidden: Tensor = self.outside(torch.tanh(self.inside(seen)))
        return hidden.squeeze(-1)


def _seen(particles: Particles, z: Sequence[Tensor]) -> Tensor:
    """(K, *local, width) z and logits of all sites, concatenated."""
    start = 1 + len(particles.local)
    logits = [site.parameters["logits"].detach() for site in particles.latents]
    return torch.cat([each.flatten(start) for each in (*z, *logits)], -1)
