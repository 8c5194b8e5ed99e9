"""The autoencoder with a wide but sparse code."""

from __future__ import annotations

import pyro
import pyro.distributions as dist
from pyro.distributions import constraints
from torch import Tensor
from torch.nn.functional import normalize

from ..arguments.names import SIZE
from ..arguments.real import POSITIVE
from ..arguments.takes import takes
from ..pair.pair import Pair
from .autoencoder import autoencoder, start
from .sizes import check_sizes


@takes(features=SIZE, hidden=SIZE, penalty=POSITIVE, scale=POSITIVE)
def sparse_autoencoder(
    features: int = 64, hidden: int = 128, *, penalty: float = 0.1, scale: float = 1.0, seed: int | None = None
) -> Pair:
    """Autoencoder with a penalty on |h|, which makes most entries of a wide code zero.

    h = shrink(Aᵀ(x − b), τ), x ~ N(b + W h, scale² I), h_j ~ Laplace(0, 1/penalty). Up to a constant, the ELBO is

    −Σᵢ [ |xᵢ − b − W hᵢ|² / (2 scale²) + penalty Σⱼ |hᵢⱼ| ],

    so the guide's point mass approximates the most probable h of each datum (MAP) under the Laplace prior, as far as one layer can.
    The columns of W have length 1; otherwise W would grow and h shrink, and the penalty would have no effect. shrink(u, τ) = sign(u) max(|u| − τ, 0),
    with τ learnt for each h_j, is the exact solution if W is orthogonal, and gives exact zeros.

    Args:
        features: D, the columns of x (N, D).
        hidden: Dimensions of h; more than features is usual.
        penalty: Penalty in nats per unit of |h_j|.
        scale: Standard deviation of a feature around its reconstruction. Only penalty · scale² matters for h.
        seed: Seed for the initial W; A starts at W and τ at penalty · scale².

    Raises:
        BadInput: A size, penalty or scale that is not positive.

    References:
        Olshausen & Field 1996, Emergence of simple-cell receptive field properties, doi:10.1038/381607a0.
        Gregor & LeCun 2010, Learning fast approximations of sparse coding (one step of theirs, learnt).
    """
    check_sizes(features=features, hidden=hidden)
    initial = normalize(start(features, hidden, seed=seed), dim=0)

    def offset(like: Tensor) -> Tensor:
        return pyro.param("offset", lambda: like.new_zeros(features))

    def encode(x: Tensor) -> Tensor:
        filters = pyro.param("filters", lambda: initial.to(x, copy=True))
        threshold = pyro.param(
            "threshold", lambda: x.new_full((hidden,), penalty * scale**2), constraint=constraints.positive
        )
        pull = (x - offset(x)) @ filters
        return pull.sign() * (pull.abs() - threshold).clamp(min=0)

    def decode(h: Tensor) -> Tensor:
        weight = pyro.param("weight", lambda: initial.to(h, copy=True))
        return h @ normalize(weight, dim=0).T + offset(h)

    def prior(x: Tensor) -> dist.TorchDistribution:
        return dist.Laplace(x.new_zeros(hidden), 1 / penalty).to_event(1)

    return autoencoder("sparse_autoencoder", features, hidden, encode, decode, scale=scale, prior=prior)
