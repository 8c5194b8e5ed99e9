"""A coin of unknown bias."""

from __future__ import annotations

import pyro
import pyro.distributions as dist
import torch
from torch import Tensor

from ..pair import Pair


def beta_bernoulli() -> Pair:
    """θ ~ Beta(2, 3), x ~ Bernoulli(θ); q(θ) = Beta(a, b). Conjugate, with implicit reparameterisation (Figurnov et al. 2018)."""

    def model(x: Tensor) -> None:
        theta = pyro.sample("theta", dist.Beta(x.new_tensor(2.0), x.new_tensor(3.0)))
        with pyro.plate("data", len(x)):
            pyro.sample("x", dist.Bernoulli(theta), obs=x)

    def guide(x: Tensor) -> None:
        ab = pyro.param("ab", lambda: torch.tensor([3.0, 2.5]), constraint=dist.constraints.positive)
        pyro.sample("theta", dist.Beta(ab[0], ab[1]))

    return Pair(model, guide, name="beta_bernoulli")
