"""Linear latents with Gaussian noise and a linear Gaussian guide: what probabilistic PCA and factor analysis share."""

from __future__ import annotations

from typing import Any, Literal, get_args

import pyro
import pyro.distributions as dist
import torch
from pyro.distributions import constraints
from torch import Tensor

from ..arguments.choice import Choice
from ..errors import BadInput
from ..exact.linear_gaussian import LinearGaussian
from ..pair.exact import Exact
from ..pair.pair import Pair
from .autoencoder import start
from .sizes import check_columns, check_sizes

Covariance = Literal["diagonal", "full"]
COVARIANCE = Choice(get_args(Covariance), "covariance of the guide")


def linear_factors(
    name: str, features: int, latent: int, *, noises: tuple[int, ...], covariance: Covariance, seed: int | None
) -> Pair:
    """z ~ N(0, I), x ~ N(W z + b, diag scale²); q(z|x) = N(gainᵀ(x − b), guide_scale guide_scaleᵀ), with exact ELBO, evidence, posterior.

    Args:
        name: Name of the pair.
        features: D, the columns of x (N, D).
        latent: L, the dimensions of z.
        noises: Shape of `scale`: () for one that all features share, (D,) for one each.
        covariance: Of q(z|x), the same for all x: "diagonal" or "full".
        seed: Seed for the initial W and gain.

    Raises:
        BadInput: A size that is not positive, or no such covariance; on a call, x with another number of columns.
    """
    check_sizes(features=features, latent=latent)
    if covariance not in ("diagonal", "full"):
        raise BadInput(f"covariance={covariance!r} is not a covariance of the guide. Wanted: 'diagonal' or 'full'.")
    initial, full = start(features, latent, seed=seed), covariance == "full"

    def likelihood(x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        weight = pyro.param("weight", lambda: initial.to(x, copy=True))
        offset = pyro.param("offset", lambda: x.new_zeros(features))
        return weight, offset, pyro.param("scale", lambda: x.new_ones(noises), constraint=constraints.positive)

    def q(x: Tensor) -> dist.TorchDistribution:
        _, offset, _ = likelihood(x)
        location = (x - offset) @ pyro.param("gain", lambda: 0.5 * initial.to(x))
        if full:
            factor = pyro.param(
                "guide_scale",
                lambda: torch.eye(latent, dtype=x.dtype, device=x.device),
                constraint=constraints.lower_cholesky,
            )
            return dist.MultivariateNormal(location, scale_tril=factor)
        spread = pyro.param("guide_scale", lambda: x.new_ones(latent), constraint=constraints.positive)
        return dist.Normal(location, spread).to_event(1)

    def model(x: Tensor) -> None:
        check_columns(name, x, features)
        weight, offset, scale = likelihood(x)
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", prior(x))
            pyro.sample("x", dist.Normal(z @ weight.T + offset, scale).to_event(1), obs=x)

    def prior(x: Tensor) -> dist.TorchDistribution:
        if full:  # in the guide's family, for which the KL between the two is known
            return dist.MultivariateNormal(
                x.new_zeros(latent), scale_tril=torch.eye(latent, dtype=x.dtype, device=x.device)
            )
        return dist.Normal(x.new_zeros(latent), 1.0).to_event(1)

    def guide(x: Tensor) -> None:
        check_columns(name, x, features)
        drawn_from = q(x)
        with pyro.plate("data", len(x)):
            pyro.sample("z", drawn_from)

    def truth(x: Tensor) -> LinearGaussian:
        weight, offset, scale = likelihood(x)
        variances = scale.square().expand(features)
        return LinearGaussian(
            x.new_zeros(latent), torch.eye(latent, dtype=x.dtype, device=x.device), weight, offset, variances
        )

    def exact_elbo(x: Tensor) -> Tensor:
        own: Any = q(x)
        joint = own if full else dist.MultivariateNormal(own.mean, scale_tril=own.base_dist.scale[0].diag())
        return truth(x).elbo(x, joint).sum()

    def posterior(x: Tensor) -> dict[str, Any]:
        known = truth(x).posterior(x)
        return {"z": dist.MultivariateNormal(known.mean, scale_tril=known.scale_tril)}

    exact = Exact(exact_elbo, lambda x: truth(x).log_evidence(x).sum(), posterior, lambda x: truth(x).log_evidence(x))
    return Pair(model, guide, name=name, exact=exact)
