"""Two Gaussian latents in a row, under a guide that follows the same order."""

from __future__ import annotations

import pyro
import pyro.distributions as dist
import torch
from torch import Tensor

from ..pair import Pair


def gaussian_chain() -> Pair:
    """z₁ ~ N(0, 1), z₂ ~ N(w z₁, 1), x ~ N(z₂, ½²) for each datum; q(z₁|x) = N(a x, s₁²), q(z₂|z₁, x) = N(b z₁ + c x, s₂²)."""

    def model(x: Tensor) -> None:
        w = pyro.param("w", lambda: torch.tensor(0.8))
        with pyro.plate("data", len(x)):
            first = pyro.sample("z1", dist.Normal(x.new_zeros(()), 1.0))
            second = pyro.sample("z2", dist.Normal(w * first, 1.0))
            pyro.sample("x", dist.Normal(second, 0.5), obs=x)

    def guide(x: Tensor) -> None:
        a, b, c = pyro.param("slopes", lambda: torch.tensor([0.3, 0.2, 0.6]))
        s = pyro.param("scales", lambda: torch.tensor([0.8, 0.5]), constraint=dist.constraints.positive)
        with pyro.plate("data", len(x)):
            first = pyro.sample("z1", dist.Normal(a * x, s[0]))
            pyro.sample("z2", dist.Normal(b * first + c * x, s[1]))

    return Pair(model, guide, name="gaussian_chain")
