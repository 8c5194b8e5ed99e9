"""Which of three Gaussians made a datum."""

from __future__ import annotations

import pyro
import pyro.distributions as dist
import torch
from torch import Tensor

from ..pair import Pair


def gaussian_mixture(rows: int = 2) -> Pair:
    """c ~ Categorical(π), x ~ N(μ_c, 0.9²); q(c) = Categorical, with logits for each datum.

    Args:
        rows: N.
    """

    def model(x: Tensor) -> None:
        means = pyro.param("means", lambda: torch.tensor([-1.0, 0.5, 2.0]))
        weights = pyro.param("weights", lambda: torch.tensor([0.2, 0.5, 0.3]), constraint=dist.constraints.simplex)
        with pyro.plate("data", len(x)):
            c = pyro.sample("c", dist.Categorical(weights))
            pyro.sample("x", dist.Normal(means[c], 0.9), obs=x)

    def guide(x: Tensor) -> None:
        logits = pyro.param("logits", lambda: torch.linspace(-0.6, 0.9, 3 * rows).reshape(rows, 3))
        with pyro.plate("data", len(x)):
            pyro.sample("c", dist.Categorical(logits=logits))

    return Pair(model, guide, name="gaussian_mixture")
