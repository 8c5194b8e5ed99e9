"""A normal with a low-rank covariance."""

from __future__ import annotations

import math
from typing import Any

import pyro.distributions as dist
import torch
from pyro.distributions import constraints
from pyro.nn import PyroParam
from torch import Tensor

from .. import rng
from .curvature import Place
from .starts import Start, best_normal
from .whitened import Whitened


class LowRank(Whitened):
    """A normal over all unconstrained latents with covariance w (F Fᵀ + S²) w, where F has few columns.

    Args:
        model, start, seed: As for `Whitened`.
        rank: Number of columns of F; if None, the square root of the number of latents, as in Pyro.

    References:
        Ong, Nott & Smith 2018, Gaussian variational approximation with a factor covariance structure, arXiv:1701.03208.
    """

    words = "low-rank normal"
    factor: Any

    def __init__(self, model: Any, *, start: Start = best_normal, seed: int = 0, rank: int | None = None) -> None:
        super().__init__(model, start=start, seed=seed)
        self.rank = rank

    def _start(self, like: Tensor) -> None:
        size = len(like)
        rank = min(self.rank or int(round(size**0.5)), size)
        self.loc = PyroParam(torch.zeros_like(like))
        if self.root.dim() == 2:  # the widest directions found by the search, and the remaining variances
            whole = self.root.double() / self.widths.double()[:, None]
            values, vectors = torch.linalg.eigh(whole @ whole.T)
            factor = vectors[:, -rank:] * (values[-rank:] - 1).clamp_min(1e-4).sqrt()
            left = ((whole @ whole.T).diagonal() - factor.square().sum(1)).clamp_min(1e-2)
        else:
            factor = (
                torch.randn(size, rank, generator=rng.stream(self._seed), dtype=torch.float64, device="cpu")
                * 0.1
                / math.sqrt(rank)
            )
            left = torch.ones_like(like)
        self.factor = PyroParam(factor.to(like))
        self.scale = PyroParam(left.sqrt().to(like), constraints.softplus_positive)

    def away(self, place: Place) -> Tensor:
        return (place.centre.to(self.centre) - self.centre) / self.widths

    def get_posterior(self, *args: Any, **kwargs: Any) -> Any:
        width = self.widths
        return dist.LowRankMultivariateNormal(
            self.centre + width * self.loc, width[:, None] * self.factor, (width * self.scale).square()
        )
