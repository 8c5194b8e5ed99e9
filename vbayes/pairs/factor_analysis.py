"""Factor analysis with a linear guide."""

from __future__ import annotations

from ..arguments.names import SIZE
from ..arguments.takes import takes
from ..pair.pair import Pair
from .linear_factors import COVARIANCE, Covariance, linear_factors


@takes(features=SIZE, latent=SIZE, covariance=COVARIANCE)
def factor_analysis(
    features: int = 64, latent: int = 5, *, covariance: Covariance = "diagonal", seed: int | None = None
) -> Pair:
    """Factor analysis with a linear guide, with exact ELBO, evidence and posterior.

    z ~ N(0, I), x ~ N(W z + b, diag ψ); q(z|x) = N(V(x − b), C) with the same C for all x. Unlike in probabilistic PCA, each feature has its own
    noise, so the model explains what features share, not how much they vary. If a feature is
    constant, the likelihood is unbounded, as its ψ goes to 0. The maximum is computed by `vbayes.exact.factor_analysis.maximum_likelihood`.

    Args:
        features: D, the columns of x (N, D).
        latent: L, the dimensions of z.
        covariance: C, "diagonal" or "full".
        seed: Seed for the initial W and V. Parameters: `weight` W (D, L), `offset` b, `scale` ψ^½ (D,), `gain` Vᵀ (D, L), `guide_scale` C^½.

    Raises:
        BadInput: A size that is not positive, or no such covariance; on a call, x with another number of columns.

    References:
        Rubin & Thayer 1982, EM algorithms for ML factor analysis, doi:10.1007/BF02293851.
    """
    return linear_factors("factor_analysis", features, latent, noises=(features,), covariance=covariance, seed=seed)
