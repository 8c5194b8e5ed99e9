"""DisARM: antithetic pairs of binary draws, with their noise integrated out."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from .binary_pairs import BinaryPairs


@dataclass(frozen=True)
class DisARM(BinaryPairs):
    """A gradient for Bernoulli latents from antithetic pairs of draws b = 1[u < σ(α)], b̃ = 1[1 − u < σ(α)]: ARM with u integrated out.

    surrogate = mean over pairs of [½ (log p(x, b) + log p(x, b̃)) + Σ_i sg(½ (log w(b) − log w(b̃)) (−1)^b̃_i 1[b_i ≠ b̃_i] σ(|α_i|)) α_i]

    Bound: ELBO. Bias: none. Needs: a guide of Bernoulli sites that are independent given the data, and an even number of particles. Coordinates in
    which the two draws agree have no gradient, and no noise.

    References:
        Dong, Mnih & Tucker 2020, DisARM, arXiv:2006.10680; Yin, Ho, Yan, Qian & Zhou 2020 (U2G).
    """

    reference = "Dong, Mnih & Tucker 2020, arXiv:2006.10680"

    def factor(self, logits: Tensor, one: Tensor, other: Tensor) -> Tensor:
        return torch.where(one != other, torch.sigmoid(logits.abs()), 0.0) * (1 - 2 * other)
