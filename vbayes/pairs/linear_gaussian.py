"""Probabilistic PCA with tied weights: the guide uses the model's matrix."""

from __future__ import annotations

import functools
from typing import Any

import pyro
import pyro.distributions as dist
import torch
from pyro.distributions import constraints
from torch import Tensor, nn
from torch.nn.utils import skip_init

from ..arguments.names import SIZE
from ..arguments.takes import takes
from ..exact.linear_gaussian import LinearGaussian
from ..pair.exact import Exact
from ..pair.pair import Pair

NOISE = 0.6  # standard deviation of x given z


@takes(features=SIZE, latent=SIZE)
def linear_gaussian(features: int = 3, latent: int = 2) -> Pair:
    """Probabilistic PCA with weights shared by model and guide, with exact ELBO, evidence and posterior.

    z ~ N(0, I), x ~ N(W z, 0.6² I); q(z|x) = N(gain Wᵀx, diag σ²). The gradient in W comes from both, which an estimator
    that treats model and guide separately gets wrong.

    Args:
        features: D, the columns of x (N, D).
        latent: L, the dimensions of z.

    References:
        Tipping & Bishop 1999, Probabilistic principal component analysis, doi:10.1111/1467-9868.00196.
    """
    tied = skip_init(nn.Linear, latent, features, bias=False)  # instead of its random initial value
    with torch.no_grad():  # asymmetric, and reproducible
        tied.weight.copy_(torch.cos(torch.arange(1.0, 1 + features * latent)).reshape(features, latent))

    def q(x: Tensor) -> tuple[Tensor, Tensor]:
        gain = pyro.param("gain", lambda: torch.tensor(0.5, device=x.device))
        start = functools.partial(torch.linspace, 0.5, 0.8, latent, device=x.device)
        scale = pyro.param("scale", start, constraint=constraints.positive)
        return gain * x @ tied.weight, scale

    def model(x: Tensor) -> None:
        pyro.module("tied", tied)
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", dist.Normal(x.new_zeros(latent), 1.0).to_event(1))
            pyro.sample("x", dist.Normal(tied(z), NOISE).to_event(1), obs=x)

    def guide(x: Tensor) -> None:
        pyro.module("tied", tied)
        location, scale = q(x)
        with pyro.plate("data", len(x)):
            pyro.sample("z", dist.Normal(location, scale).to_event(1))

    def truth() -> LinearGaussian:
        w = tied.weight
        noise = w.new_full((features,), NOISE**2).diag()
        return LinearGaussian(w.new_zeros(latent), w.new_ones(latent).diag(), w, w.new_zeros(features), noise)

    def exact_elbo(x: Tensor) -> Tensor:
        location, scale = q(x)
        return truth().elbo(x, torch.distributions.MultivariateNormal(location, scale.square().diag())).sum()

    def posterior(x: Tensor) -> dict[str, Any]:
        known = truth().posterior(x)
        return {"z": dist.MultivariateNormal(known.mean, known.covariance_matrix)}

    exact = Exact(exact_elbo, lambda x: truth().log_evidence(x).sum(), posterior, lambda x: truth().log_evidence(x))
    return Pair(model, guide, name="linear_gaussian", exact=exact)
