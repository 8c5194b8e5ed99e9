"""Effects of coaching in eight schools: a hierarchical model with a global latent."""

from __future__ import annotations

import pyro
import pyro.distributions as dist
from pyro.infer.autoguide import AutoNormal
from torch import Tensor

from ..pair.pair import Pair


def eight_schools() -> Pair:
    """Effects of coaching in eight schools, non-centred, under an autoguide.

    μ ~ N(0, 5), τ ~ HalfCauchy(5), θ̃ ~ N(0, 1), y ~ N(μ + τ θ̃, σ); the guide is `AutoNormal`.

    References:
        Rubin 1981, Estimation in parallel randomized experiments; Gelman et al. 2013, BDA3, section 5.5.
        Papaspiliopoulos, Roberts & Sköld 2007, A general framework for the parametrization of hierarchical models.
    """

    def model(y: Tensor, sigma: Tensor) -> None:
        mu = pyro.sample("mu", dist.Normal(y.new_zeros(()), 5.0))
        tau = pyro.sample("tau", dist.HalfCauchy(y.new_tensor(5.0)))
        with pyro.plate("data", len(y)):
            theta = pyro.sample("theta_tilde", dist.Normal(y.new_zeros(()), 1.0))
            pyro.sample("y", dist.Normal(mu + tau * theta, sigma), obs=y)

    return Pair(model, AutoNormal(model), name="eight_schools")
