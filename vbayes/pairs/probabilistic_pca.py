"""Probabilistic PCA as a linear variational autoencoder."""

from __future__ import annotations

from ..arguments.names import SIZE
from ..arguments.takes import takes
from ..pair.pair import Pair
from .linear_factors import COVARIANCE, Covariance, linear_factors


@takes(features=SIZE, latent=SIZE, covariance=COVARIANCE)
def probabilistic_pca(
    features: int = 64, latent: int = 5, *, covariance: Covariance = "diagonal", seed: int | None = None
) -> Pair:
    """Probabilistic PCA with a linear guide, the linear variational autoencoder, with exact ELBO, evidence and posterior.

    z ~ N(0, I), x ~ N(W z + b, σ²I); q(z|x) = N(V(x − b), C) with the same C for all x. The posterior N(M⁻¹Wᵀ(x − b), σ²M⁻¹), M = WᵀW + σ²I,
    is of that form if C is full, and for a diagonal C if the columns of W are orthogonal. At the maximum likelihood they
    can be, so both guides reach the exact evidence, and with the diagonal one the columns of W are then principal directions.
    That maximum is computed by `vbayes.exact.probabilistic_pca.maximum_likelihood`.

    Args:
        features: D, the columns of x (N, D).
        latent: L, the dimensions of z.
        covariance: C, "diagonal" or "full".
        seed: Seed for the initial W and V. Parameters: `weight` W (D, L), `offset` b, `scale` σ (), `gain` Vᵀ (D, L), `guide_scale` C^½.

    Raises:
        BadInput: A size that is not positive, or no such covariance; on a call, x with another number of columns.

    References:
        Tipping & Bishop 1999, Probabilistic principal component analysis, doi:10.1111/1467-9868.00196.
        Lucas, Tucker, Grosse & Norouzi 2019, Don't blame the ELBO!, arXiv:1911.02469.
    """
    return linear_factors("probabilistic_pca", features, latent, noises=(), covariance=covariance, seed=seed)
