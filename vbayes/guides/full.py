"""A normal with a full covariance matrix."""

from __future__ import annotations

from typing import Any

import pyro.distributions as dist
import torch
from pyro.distributions import constraints
from pyro.nn import PyroParam
from torch import Tensor

from ..errors import Unsuitable
from .whitened import Whitened

MOST = 10_000  # latents; a step holds and multiplies matrices of this size


class Full(Whitened):
    """A normal over all unconstrained latents with a full covariance: centre + L (m + C ε), with C lower triangular.

    It starts as the normal of the best ELBO, found from the curvature with second derivatives and without a learning rate. Its D (D + 1) / 2 covariances are too many
    for thousands of latents; `LowRank` has fewer.

    References:
        Titsias & Lázaro-Gredilla 2014, Doubly stochastic variational Bayes; Kucukelbir et al. 2017, ADVI, arXiv:1603.00788.
    """

    words = "full-rank normal"
    scale_tril: Any

    def _start(self, like: Tensor) -> None:
        if len(like) > MOST:
            raise Unsuitable(
                f"guide='full' for {len(like):,} latents has {len(like) ** 2:,} covariances, {len(like) ** 2 * 4 / 1e9:,.1f} GB for each of the matrices of a step. "
                "Wanted: guide='low_rank' or 'diagonal'."
            )
        self.loc = PyroParam(torch.zeros_like(like))
        self.scale_tril = PyroParam(
            torch.eye(len(like), dtype=like.dtype, device=like.device), constraints.lower_cholesky
        )

    def get_posterior(self, *args: Any, **kwargs: Any) -> Any:
        root = self.root if self.root.dim() == 2 else self.root.diag()
        return dist.MultivariateNormal(self.centre + root @ self.loc, scale_tril=root @ self.scale_tril)
