"""Batch and match."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ..arguments.takes import takes
from ..arguments.whole import Whole


@takes(draws=Whole(2, drawn=True))
@dataclass(frozen=True)
class BatchAndMatch:
    """Batch and match: closed-form updates of a full-covariance normal from the scores ∇ log p at B draws, without ELBO gradients or a learning rate.

    Each new normal minimises the difference between its scores and the target's at these draws, plus KL / λ from the previous normal to it. With z̄, C and ḡ, Γ the means and
    covariances of draws and scores,

        U = λ Γ + λ/(1+λ) ḡ ḡᵀ,    V = Σ + λ C + λ/(1+λ) (m − z̄)(m − z̄)ᵀ,    Σ ← 2 V (I + (I + 4 U V)^½)⁻¹,    m ← (m + λ (z̄ + Σ ḡ)) / (1+λ),

    with λ = B D / t at step t. It needs all data in each step, and there may be no parameters besides those of the guide.

    Args:
        draws: B, the number of draws; with more than D, it converges quickly on a normal posterior.

    References:
        Cai, Modi, Pillaud-Vivien, Margossian, Gower, Blei & Saul 2024, Batch and match: black-box variational inference with a score-based divergence,
        arXiv:2402.14758, equations 7 to 12.

    Examples:
        >>> vb.fit(model, data, guide="full", update=vb.BatchAndMatch(draws=32), steps=100)
    """

    draws: int = 32

    def match(self, mean: Tensor, root: Tensor, draws: Tensor, scores: Tensor, step: int) -> tuple[Tensor, Tensor]:
        """Computes the mean (D,) and root (D, D) of the next normal.

        Args:
            mean, root: Those of the previous normal.
            draws, scores: (B, D) draws from it, and ∇ log p there.
            step: Number of the step, from 1.
        """
        rate = draws.numel() / step
        share = rate / (1 + rate)
        middle, slope = draws.mean(0), scores.mean(0)
        bend = _factor(scores - slope, slope, rate, share)  # U = bend bendᵀ, and so on
        spread = torch.cat([root, _factor(draws - middle, mean - middle, rate, share)], 1)
        wide = lower_triangle(spread)
        values, axes = torch.linalg.eigh((wide.mT @ bend) @ (wide.mT @ bend).mT)
        # S A S + S = I with A = Lᵀ U L and Σ = L S Lᵀ.
        size = 2 / (1 + (1 + 4 * values.clamp_min(0.0)).sqrt())
        root = lower_triangle((wide @ axes) * size.sqrt())
        return (1 - share) * mean + share * (middle + root @ (root.mT @ slope)), root


def _factor(centred: Tensor, off: Tensor, rate: float, share: float) -> Tensor:
    """A factor (D, B + 1) whose product with its transpose is λ times a covariance plus λ/(1+λ) times an outer product."""
    return torch.cat([centred.mT * (rate / len(centred)) ** 0.5, off[:, None] * share**0.5], 1)


def lower_triangle(root: Tensor) -> Tensor:
    """The lower triangle L (D, D) with L Lᵀ = R Rᵀ, for any R with D rows."""
    lower = torch.linalg.qr(root.mT).R.mT
    return lower * torch.where(lower.diagonal() < 0, -1.0, 1.0)
