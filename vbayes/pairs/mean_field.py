"""The mean-field baseline: no encoder, but a separate Gaussian for each datum."""

from __future__ import annotations

import pyro
import pyro.distributions as dist
import torch
from torch import Tensor

from ..arguments.names import SIZE
from ..arguments.takes import takes
from ..pair.pair import Pair
from .vae import OUTPUT, Output, networks


@takes(features=SIZE, hidden=SIZE, latent=SIZE, output=OUTPUT, rows=SIZE)
def mean_field(
    features: int = 64,
    hidden: int = 128,
    latent: int = 5,
    *,
    rows: int,
    output: Output = "bernoulli",
    seed: int | None = None,
) -> Pair:
    """Mean-field baseline: the model of the autoencoder, with a separate Gaussian for each datum.

    q(zᵢ) = N(μᵢ, diag σᵢ²), with its own μᵢ and σᵢ for each datum i; p_θ(x, z) is that of the variational autoencoder. Without an encoder, data don't share information: each datum's q learns only when that datum is in the batch, and
    there is no q for new data. In return, there is no amortisation gap.

    Args:
        features, hidden, latent, output, seed: As for `vae`.
        rows: N. The pair is called with x of shape (M, features) and the row numbers (M,) of those data.
    """
    _, decoder = networks(features, hidden, latent, output=output, seed=seed)

    def model(x: Tensor, rows: Tensor) -> None:
        decoder.model(x)

    def guide(x: Tensor, rows: Tensor) -> None:
        location = pyro.param("location", lambda: torch.zeros(n, latent, device=x.device))
        scale = pyro.param(
            "scale", lambda: torch.ones(n, latent, device=x.device), constraint=dist.constraints.softplus_positive
        )
        with pyro.plate("data", len(x)):
            pyro.sample("z", dist.Normal(location[rows], scale[rows]).to_event(1))

    n = rows
    return Pair(model, guide, name="mean_field")
