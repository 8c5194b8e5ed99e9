"""Pareto-smoothed weights of draws, and whether the draws or their weights can be trusted."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from ..export.weights import smooth

Trust = Literal["good", "reweight", "bad"]
WORST_K = 0.7  # from there on means of weighted draws settle too slowly for any number of them (Vehtari et al. 2024)
ENOUGH = 2 / 3  # of the draws: an effective number below says that weighted draws are better than plain ones
# Of the draws: below these parts smoothed weights were not within a tenth of an sd on posteriors with reference draws, though k̂ was below .7. From k̂ = ⅓ on a
# weight has no third moment, so that the effective number is too large itself, and more is asked of it.
LEAST, LEAST_OF_HEAVY, HEAVY_K = 0.02, 0.05, 1 / 3


@dataclass(frozen=True)
class Smoothed:
    """Smoothed weights of K draws; `*local` as in `Particles`. The fields are those of `export.weights.Smooth`.

    Attributes:
        log_w: (K, *local).
        k_hat, k_hat_se, effective: (*local).
    """

    log_w: Tensor
    k_hat: Tensor
    k_hat_se: Tensor
    effective: Tensor


def smoothed(log_w: Tensor) -> Smoothed:
    """Smooths log-weights (K, *local)."""
    made = smooth(log_w.detach().double().cpu().numpy())
    return Smoothed(*(torch.as_tensor(one, device=log_w.device) for one in made))


def trust(k_hat: float, part: float) -> Trust:
    """Judges draws by k̂ and their relative effective number.

    k̂ alone does not notice a guide that is too wide; the effective number alone is too large if the heaviest weights were not drawn.
    """
    if not k_hat < WORST_K or part < (LEAST if k_hat < HEAVY_K else LEAST_OF_HEAVY):
        return "bad"
    return "good" if part >= ENOUGH else "reweight"
