"""The autoencoder with a narrow code: non-linear PCA."""

from __future__ import annotations

import pyro
from torch import Tensor, nn

from ..arguments.kind import Optional
from ..arguments.names import SIZE
from ..arguments.real import POSITIVE
from ..arguments.takes import takes
from ..pair.pair import Pair
from .autoencoder import autoencoder
from .sizes import check_sizes


@takes(features=SIZE, hidden=SIZE, width=SIZE, scale=Optional(POSITIVE))
def bottleneck_autoencoder(
    features: int = 64, hidden: int = 5, *, width: int = 128, scale: float | None = 1.0, seed: int | None = None
) -> Pair:
    """Autoencoder with a low-dimensional code between two networks: non-linear PCA.

    h = encoder(x), x ~ N(decoder(h), scale² I), each a network with one tanh layer. Because hidden < features, it can't learn the identity.

    Args:
        features: D, the columns of x (N, D).
        hidden: Dimensions of h.
        width: Units in the tanh layer of encoder and decoder.
        scale: Standard deviation of a feature around its reconstruction; None learns it.
        seed: Seed for the initial weights (PyTorch's default for linear layers).

    Raises:
        BadInput: A size or scale that is not positive.

    References:
        Kramer 1991, Nonlinear principal component analysis using autoassociative neural networks, doi:10.1002/aic.690370209.
        Hinton & Salakhutdinov 2006, Reducing the dimensionality of data with neural networks, doi:10.1126/science.1127647.
    """
    from .. import rng

    check_sizes(features=features, hidden=hidden, width=width)
    with rng.seeded(seed):
        encoder = nn.Sequential(nn.Linear(features, width), nn.Tanh(), nn.Linear(width, hidden))
        decoder = nn.Sequential(nn.Linear(hidden, width), nn.Tanh(), nn.Linear(width, features))

    def encode(x: Tensor) -> Tensor:
        code: Tensor = pyro.module("encoder", encoder)(x)
        return code

    def decode(h: Tensor) -> Tensor:
        mean: Tensor = pyro.module("decoder", decoder)(h)
        return mean

    return autoencoder("bottleneck_autoencoder", features, hidden, encode, decode, scale=scale)
