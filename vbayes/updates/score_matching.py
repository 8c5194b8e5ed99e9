"""Gaussian score matching."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ..arguments.takes import takes
from ..arguments.whole import Whole
from .batch_and_match import lower_triangle


@takes(draws=Whole(1, drawn=True))
@dataclass(frozen=True)
class ScoreMatching:
    """Gaussian score matching: closed-form updates of a full-covariance normal, each to the mean of B normals that match the score ∇ log p at one draw and are closest to the previous one in KL.

    With d = m − z and ρ (1 + ρ) = gᵀ Σ g + (dᵀ g)²,

        δ = (I − d gᵀ / (1 + ρ + dᵀ g)) (Σ g − d) / (1 + ρ),    m ← m + mean δ,    Σ ← Σ + mean (d dᵀ − (d + δ)(d + δ)ᵀ).

    It has no settings besides the number of draws and no memory: if the posterior is not normal, it keeps fluctuating, whereas `BatchAndMatch` converges.

    Args:
        draws: B, the number of draws.

    References:
        Modi, Gower, Margossian, Yao, Blei & Saul 2023, Variational inference with Gaussian score matching, arXiv:2307.07849, algorithm 1.

    Examples:
        >>> vb.fit(model, data, guide="full", update=vb.ScoreMatching(draws=8), steps=200)
    """

    draws: int = 8

    def match(self, mean: Tensor, root: Tensor, draws: Tensor, scores: Tensor, step: int) -> tuple[Tensor, Tensor]:
        """Computes the mean (D,) and root (D, D) of the next normal; as for `BatchAndMatch`."""
        away = mean - draws
        along = (away * scores).sum(1)
        length = (scores @ root).square().sum(1) + along.square()
        rho = ((1 + 4 * length).sqrt() - 1) / 2
        towards = scores @ root @ root.mT - away
        pull = (scores * towards).sum(1) / (1 + rho + along)
        moved = (towards - away * pull[:, None]) / (1 + rho[:, None])
        # Σ + (d dᵀ − (d + δ)(d + δ)ᵀ): each is positive definite, and so is their mean.
        one, two = away, away + moved
        covariance = root @ root.mT + (one.mT @ one - two.mT @ two) / len(draws)
        values, axes = torch.linalg.eigh((covariance + covariance.mT) / 2)
        least = values.amax() * torch.finfo(values.dtype).eps
        return mean + moved.mean(0), lower_triangle(axes * values.clamp_min(least).sqrt())
