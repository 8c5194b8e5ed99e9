"""ARM: antithetic pairs of binary draws, weighted by their noise."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from .binary_pairs import BinaryPairs


@dataclass(frozen=True)
class ARM(BinaryPairs):
    """Augment-REINFORCE-merge: a gradient for Bernoulli latents from antithetic pairs of draws.

    surrogate = mean over pairs of [½ (log p(x, b) + log p(x, b̃)) + Σ_i sg((log w(b̃) − log w(b)) (u_i − ½)) α_i], b = 1[u < σ(α)], b̃ = 1[1 − u < σ(α)]

    Bound: ELBO. Bias: none. Needs: a guide of Bernoulli sites that are independent given the data, and an even number of particles. `DisARM` is its mean over all u that
    give the same pair, and is never noisier.

    References:
        Yin & Zhou 2018, ARM: augment-REINFORCE-merge gradient for stochastic binary networks, arXiv:1807.11143.
    """

    reference = "Yin & Zhou 2018, arXiv:1807.11143"

    def factor(self, logits: Tensor, one: Tensor, other: Tensor) -> Tensor:
        # Given the pair, u is uniform on the interval that produces it; drawing it there gives the joint distribution of pair and u.
        rare = torch.sigmoid(-logits.abs())
        low = torch.where(one != other, torch.where(one > other, 0.0, 1 - rare), rare)
        high = torch.where(one != other, torch.where(one > other, rare, 1.0), 1 - rare)
        return 1 - 2 * (low + (high - low) * torch.rand_like(low))
