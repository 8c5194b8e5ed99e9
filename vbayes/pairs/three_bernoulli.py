"""Three binary latents that depend on each other, under a guide in which they do not."""

from __future__ import annotations

import pyro
import pyro.distributions as dist
import torch
from torch import Tensor

from ..pair import Pair


def three_bernoulli(rows: int = 2) -> Pair:
    """b₀ ~ Bernoulli(σ(u)), b₁|b₀ and b₂|b₁ with logits ±1, x ~ N(b₀ + 2 b₁ b₂, 0.8²); q(b) = Π Bernoulli, with logits for each datum.

    Args:
        rows: N.
    """

    def model(x: Tensor) -> None:
        u = pyro.param("u", lambda: torch.tensor(-0.4))
        with pyro.plate("data", len(x)):
            zero = pyro.sample("b0", dist.Bernoulli(logits=u))
            one = pyro.sample("b1", dist.Bernoulli(logits=2 * zero - 1))
            two = pyro.sample("b2", dist.Bernoulli(logits=1 - 2 * one))
            pyro.sample("x", dist.Normal(zero + 2 * one * two, 0.8), obs=x)

    def guide(x: Tensor) -> None:
        logits = pyro.param("logits", lambda: torch.linspace(-1.0, 1.2, 3 * rows).reshape(3, rows))
        with pyro.plate("data", len(x)):
            for i in range(3):
                pyro.sample(f"b{i}", dist.Bernoulli(logits=logits[i]))

    return Pair(model, guide, name="three_bernoulli")
