"""Counts of unknown rate."""

from __future__ import annotations

import pyro
import pyro.distributions as dist
import torch
from torch import Tensor

from ..pair import Pair


def gamma_poisson() -> Pair:
    """λ ~ Gamma(2, 1), x ~ Poisson(λ); q(λ) = Gamma(a, b). Conjugate, with implicit reparameterisation (Figurnov et al. 2018)."""

    def model(x: Tensor) -> None:
        rate = pyro.sample("rate", dist.Gamma(x.new_tensor(2.0), x.new_tensor(1.0)))
        with pyro.plate("data", len(x)):
            pyro.sample("x", dist.Poisson(rate), obs=x)

    def guide(x: Tensor) -> None:
        ab = pyro.param("ab", lambda: torch.tensor([4.0, 1.7]), constraint=dist.constraints.positive)
        pyro.sample("rate", dist.Gamma(ab[0], ab[1]))

    return Pair(model, guide, name="gamma_poisson")
