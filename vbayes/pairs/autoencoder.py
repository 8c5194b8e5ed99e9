"""Base of the autoencoders: a code computed from x, and x reconstructed from the code."""

from __future__ import annotations

from collections.abc import Callable

import pyro
import pyro.distributions as dist
import torch
from pyro.distributions import constraints
from torch import Tensor

from ..pair.pair import Pair
from .flat import Flat
from .sizes import check_columns, check_sizes

Network = Callable[[Tensor], Tensor]


def autoencoder(
    name: str,
    features: int,
    hidden: int,
    encode: Network,
    decode: Network,
    *,
    scale: float | None = 1.0,
    prior: Callable[[Tensor], dist.TorchDistribution] | None = None,
) -> Pair:
    """Makes a pair with the deterministic guide h = encode(x) and x ~ N(decode(h), scale² I).

    The guide is a point mass, for which log q = 0 is used: the ELBO is log p(x, h(x)), without noise. Without a prior over h it is

    log p(x|h(x)) = −(D/2) ln(2π scale²) − |x − decode(encode(x))|² / (2 scale²)   per datum,

    which is a negative multiple of the squared error plus a constant, with the same optimum.

    Args:
        name: Name of the pair.
        features: D, the columns of x (N, D).
        hidden: Dimensions of the code h.
        encode: x (N, D) → h (N, hidden).
        decode: h → the mean of x. Both may call `pyro.param` and `pyro.module`, and share parameters of the same name.
        scale: Standard deviation of a feature around its reconstruction; None learns it, as the parameter `scale`, whose square at
            the optimum is the squared error per feature.
        prior: x → p(h), for one datum (its device and type are x's); None for no prior: then the pair can't generate data, and there is no
            evidence.

    Raises:
        BadInput: A size or scale that is not positive; on a call, x with another number of columns.
    """
    check_sizes(features=features, hidden=hidden)

    def deviation(x: Tensor) -> Tensor:
        if scale is not None:
            return x.new_tensor(scale)
        return pyro.param("scale", lambda: x.new_ones(()), constraint=constraints.positive)

    def model(x: Tensor) -> None:
        check_columns(name, x, features)
        spread = deviation(x)
        with pyro.plate("data", len(x)):
            h = pyro.sample("h", Flat(hidden) if prior is None else prior(x))
            pyro.sample("x", dist.Normal(decode(h), spread).to_event(1), obs=x)

    def guide(x: Tensor) -> None:
        check_columns(name, x, features)
        h = encode(x)
        with pyro.plate("data", len(x)):
            pyro.sample("h", dist.Delta(h, event_dim=1))

    return Pair(model, guide, name=name)


def start(features: int, hidden: int, *, seed: int | None) -> Tensor:
    """(features, hidden) random initial weights, with columns of about unit length."""
    from .. import rng

    with rng.seeded(seed):
        return torch.randn(features, hidden) / features**0.5
