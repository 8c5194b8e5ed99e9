"""A linear model whose guide reads with the weights that the model writes with."""

from __future__ import annotations

import pyro
import pyro.distributions as dist
import torch
from torch import Tensor, nn

from .. import rng
from ..pair import Pair


def linear_gaussian(features: int = 2, seed: int = 0) -> Pair:
    """z ~ N(0, 1), x ~ N(W z + b, 0.7²); q(z|x) = N(r Wᵀ(x − b), s²), with W and b of one module in both.

    Args:
        features: Of x, shape (M, features).
        seed: Of the weights.
    """
    with rng.seeded(seed):
        layer = nn.Linear(1, features)

    def model(x: Tensor) -> None:
        pyro.module("layer", layer)
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", dist.Normal(x.new_zeros(()), 1.0))
            pyro.sample("x", dist.Normal(layer(z.unsqueeze(-1)), 0.7).to_event(1), obs=x)

    def guide(x: Tensor) -> None:
        pyro.module("layer", layer)
        gain = pyro.param("gain", lambda: torch.tensor(0.9))
        scale = pyro.param("scale", lambda: torch.tensor(0.6), constraint=dist.constraints.positive)
        with pyro.plate("data", len(x)):
            pyro.sample("z", dist.Normal(gain * ((x - layer.bias) @ layer.weight).squeeze(-1), scale))

    return Pair(model, guide, name="linear_gaussian")
