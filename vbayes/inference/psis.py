"""Pareto-smoothed importance weights, and what they say of the draws that they weigh."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from ..export import arviz as export

Trust = Literal["good", "reweight", "bad"]
WORST_K = 0.7  # from there on means of weighted draws settle too slowly for any number of them (Vehtari et al. 2024)
ENOUGH = 2 / 3  # of the draws: an effective number below says that weighted draws are better than plain ones
LEAST = 0.02  # of the draws: below it smoothed weights were worse than none on posteriors with references, whatever k̂
ALIKE = 0.01  # nats between the lightest and the heaviest weight: a tail of nothing but rounding
NOTHING = 1e4  # nats below the heaviest weight: none at all, in a number that can be subtracted
TAIL = (0.2, 3.0)  # a fifth of S weights, and at most 3 √S, are the tail that is fitted
FEWEST = 25  # weights that a tail can be fitted to


@dataclass(frozen=True)
class Smoothed:
    """Smoothed weights of K draws; `*local` as in `Particles`.

    Attributes:
        log_w: (K, *local) smoothed and normalised.
        k_hat: (*local) shape of the Pareto tail; 0 where the weights are alike, infinite where some are not numbers or there are too few.
        k_hat_se: (*local) its standard error.
        effective: (*local) the number of draws from the posterior that they are worth (Kong 1992).
    """

    log_w: Tensor
    k_hat: Tensor
    k_hat_se: Tensor
    effective: Tensor

    @property
    def part(self) -> Tensor:
        """(*local) effective draws of each draw."""
        return self.effective / len(self.log_w)


def smoothed(log_w: Tensor) -> Smoothed:
    """Pareto-smoothed weights, by ArviZ.

    The standard error is that of the maximum-likelihood fit of as many excesses (Smith 1987): (1 + k) / √M.

    Args:
        log_w: (K, *local) log-weights. NaN counts as no weight.

    References:
        Vehtari, Simpson, Gelman, Yao & Gabry 2024, Pareto smoothed importance sampling, arXiv:1507.02646.
        Smith 1987, Estimating tails of probability distributions, doi:10.1214/aos/1176350499.
    """
    count = len(log_w)
    array = log_w.detach().movedim(0, -1).cpu().double().numpy()
    broken = np.isnan(array).any(-1) | np.isposinf(array).any(-1) | np.isneginf(array).all(-1)
    held = np.where(np.isfinite(array), array, np.nan)
    top = np.where(
        np.isnan(held).all(-1), 0.0, np.nanmax(np.where(np.isnan(held), -np.finfo(float).max, held), axis=-1)
    )
    clean = np.where(np.isnan(held), top[..., None] - NOTHING, held)
    alike = np.ptp(clean, axis=-1) < ALIKE
    values, k = export.psis(clean)
    k = np.where(alike, 0.0, k)
    k = np.where(broken | (count < FEWEST), np.inf, k)
    tail = math.ceil(min(TAIL[0] * count, TAIL[1] * count**0.5))
    known = np.isfinite(k) & ~alike
    se = np.where(known, np.maximum(1 + np.where(known, k, 0.0), 0.5), 0.0) / tail**0.5
    effective = np.where(broken, 0.0, 1 / np.exp(2 * values).sum(-1))
    made = (torch.as_tensor(np.asarray(one, dtype=float), device=log_w.device) for one in (k, se, effective))
    return Smoothed(torch.as_tensor(values, device=log_w.device).movedim(-1, 0), *made)


def trust(k_hat: float, part: float) -> Trust:
    """What k̂ and the effective part of the draws say of them.

    k̂ alone is blind to a guide that is too wide; the effective number alone is too large where the heaviest weights were not met.
    """
    if not k_hat < WORST_K or part < LEAST:
        return "bad"
    return "good" if part >= ENOUGH else "reweight"


def resampled(log_w: Tensor, draws: int) -> Tensor:
    """(S, *local) numbers of draws, chosen by their weights, from torch's own generator.

    Args:
        log_w: (K, *local), normalised.
    """
    return torch.distributions.Categorical(logits=log_w.movedim(0, -1), validate_args=False).sample((draws,))
