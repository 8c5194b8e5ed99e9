"""Maximum likelihood of probabilistic PCA in closed form.

References:
    Tipping & Bishop 1999, Probabilistic principal component analysis, doi:10.1111/1467-9868.00196, eqs. 7 and 8.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ..errors import BadInput
from .linear_gaussian import LinearGaussian


def maximum_likelihood(x: Tensor, latent: int) -> LinearGaussian:
    """Fits the model z ~ N(0, I), x ~ N(W z + b, σ²I) by maximum likelihood.

    b = mean of x, σ² = mean of the D − L smallest eigenvalues of the covariance of x, W = U (Λ − σ²I)^½ with the largest ones. W is unique
    up to a rotation of z; here its columns are orthogonal, so that the posterior's covariance is diagonal.

    Args:
        x: (N, D) data.
        latent: Number of latents, L.

    Returns:
        The model, with diagonal noise (D,).

    Raises:
        BadInput: L is not in 1 ... D − 1, or L directions contain all of the data, so that the likelihood has no maximum.
    """
    n, features = check_data(x, latent)
    offset = x.mean(0)
    _, spread, directions = torch.linalg.svd(x - offset, full_matrices=False)
    eigenvalues = spread.square() / n  # the others are 0
    variance = eigenvalues[latent:].sum() / (features - latent)
    if not variance > features * torch.finfo(x.dtype).eps * eigenvalues[0]:
        raise BadInput(
            f"{latent} directions contain all of the {n} data, so the noise is 0 and the likelihood has no maximum. Wanted: fewer latents, or "
            "more data."
        )
    weight = directions[:latent].T * (eigenvalues[:latent] - variance).clamp(min=0).sqrt()
    eye = torch.eye(latent, dtype=x.dtype, device=x.device)
    return LinearGaussian(x.new_zeros(latent), eye, weight, offset, variance.expand(features).clone())


def check_data(x: Tensor, latent: int) -> tuple[int, int]:
    """N and D of data that L latents are to be fitted to.

    Raises:
        BadInput: x is no matrix, or L is not in 1 ... D − 1.
    """
    if x.dim() != 2 or len(x) < 2:
        raise BadInput(f"x has shape {tuple(x.shape)}. Wanted: (N, D), with at least two data.")
    if not 1 <= latent < x.shape[1]:
        raise BadInput(f"latent={latent} for {x.shape[1]} features. Wanted: 1 to {x.shape[1] - 1}.")
    return len(x), x.shape[1]
