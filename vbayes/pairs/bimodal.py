"""A latent that is observed only through its square: a posterior with two modes, and a guide with two components."""

from __future__ import annotations

import functools

import pyro
import pyro.distributions as dist
import torch
from pyro.distributions import constraints
from torch import Tensor

from ..arguments.names import SIZE
from ..arguments.takes import takes
from ..pair.pair import Pair

SCALE = 1.0  # standard deviation of x given z


@takes(rows=SIZE)
def bimodal(rows: int = 2) -> Pair:
    """Posterior with two modes, and a guide that is a mixture of two normals; `vb.tabulate` has the exact ELBO and evidence.

    z ~ N(0, 1), x ~ N(bend z², 1), bend learnt; q(z) = α₁ N(loc₁, scale₁²) + α₂ N(loc₂, scale₂²), free for each datum.

    Args:
        rows: N. The model is called with x of shape (N,).
    """

    def model(x: Tensor) -> None:
        bend = pyro.param("bend", lambda: torch.tensor(1.1, device=x.device))
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", dist.Normal(x.new_zeros(()), 1.0))
            pyro.sample("x", dist.Normal(bend * z.square(), SCALE), obs=x)

    def guide(x: Tensor) -> None:
        def between(low: float, high: float) -> Tensor:
            return torch.linspace(low, high, 2 * rows, device=x.device).reshape(rows, 2)

        logits = pyro.param("logits", functools.partial(between, -0.4, 0.6))
        loc = pyro.param("loc", lambda: x.new_tensor([-1.0, 0.8]) + between(-0.2, 0.3))
        scale = pyro.param("scale", functools.partial(between, 0.4, 0.6), constraint=constraints.positive)
        with pyro.plate("data", len(x)):
            pyro.sample("z", dist.MixtureSameFamily(dist.Categorical(logits=logits), dist.Normal(loc, scale)))

    return Pair(model, guide, name="bimodal")
