"""The linear autoencoder, which finds principal components."""

from __future__ import annotations

import pyro
from torch import Tensor

from ..arguments.kind import Optional
from ..arguments.names import SIZE
from ..arguments.real import POSITIVE
from ..arguments.takes import takes
from ..errors import BadInput
from ..pair.pair import Pair
from .autoencoder import autoencoder, start
from .sizes import check_sizes


@takes(features=SIZE, hidden=SIZE, scale=Optional(POSITIVE))
def linear_autoencoder(
    features: int = 64, hidden: int = 5, *, scale: float | None = 1.0, seed: int | None = None
) -> Pair:
    """Linear autoencoder with tied weights; its optimum is PCA.

    h = Wᵀ(x − b), x ~ N(b + W h, scale² I): the ELBO is −Σ|(x − b) − W Wᵀ(x − b)|² / (2 scale²) plus a constant. With hidden < features the
    optimum is unique up to a rotation of h: the columns of W are orthonormal and span the leading principal directions, b is
    the mean, and the squared error per datum is the sum of the eigenvalues of the covariance that are left out. With
    hidden ≥ features it is trivial, as W Wᵀ = I reconstructs anything.

    Args:
        features: D, the columns of x (N, D).
        hidden: Dimensions of h.
        scale: Standard deviation of a feature around its reconstruction; None learns it.
        seed: Seed for the initial W; b starts at 0.

    Raises:
        BadInput: A size or scale is not positive; or `scale=None` although the reconstruction can be perfect, so that the likelihood has no
            maximum.

    References:
        Baldi & Hornik 1989, Neural networks and principal component analysis, doi:10.1016/0893-6080(89)90014-2.
    """
    check_sizes(features=features, hidden=hidden)
    if scale is None and hidden >= features:
        raise BadInput(
            f"scale=None with hidden={hidden} and features={features}: the reconstruction can be perfect, and the likelihood grows without bound "
            "as the scale goes to 0. Wanted: a fixed scale, or hidden below features."
        )
    initial = start(features, hidden, seed=seed)

    def weights(like: Tensor) -> tuple[Tensor, Tensor]:
        weight = pyro.param("weight", lambda: initial.to(like, copy=True))
        return weight, pyro.param("offset", lambda: like.new_zeros(features))

    def encode(x: Tensor) -> Tensor:
        weight, offset = weights(x)
        return (x - offset) @ weight

    def decode(h: Tensor) -> Tensor:
        weight, offset = weights(h)
        return h @ weight.T + offset

    return autoencoder("linear_autoencoder", features, hidden, encode, decode, scale=scale)
