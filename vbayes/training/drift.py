"""Whether iterates are stationary or still drifting."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

MOST = 1_000_000  # maximum number of parameter values that are examined, in order
CLIP = 10.0  # standard errors: a single drifting parameter should neither vanish in the mean of many, nor dominate it


def mean_of(parts: Sequence[Mapping[str, Tensor]], weights: Sequence[float]) -> dict[str, Tensor]:
    """The weighted mean of several sets of parameters."""
    total = math.fsum(weights)
    made = {name: torch.zeros_like(value) for name, value in parts[0].items()}
    for part, weight in zip(parts, weights, strict=True):
        for name, value in made.items():
            value.add_(part[name], alpha=weight / total)
    return made


def drift(parts: Sequence[Mapping[str, Tensor]]) -> float:
    """The distance between the two halves of some iterates in standard errors, as the root mean square over all parameters.

    About 1 if they are stationary and the parts are long: a split R-hat on batch means (Gelman et al. 2013, section 11.4). The standard error comes from
    differences of neighbouring parts.

    Args:
        parts: An even number of means of equally many iterates, in their order.

    Returns:
        NaN for fewer than four parts.
    """
    if len(parts) < 4:
        return math.nan
    x = torch.stack([torch.cat([part[name].reshape(-1)[:MOST].double() for name in parts[0]])[:MOST] for part in parts])
    half = len(parts) // 2
    moved = x[half:].mean(0) - x[:half].mean(0)
    variance = (x[1:] - x[:-1]).square().mean(0) / 2 * (2 / half)
    some = variance > 0  # parameters that never move are stationary
    if not some.any():
        return 0.0
    return float((moved[some].square() / variance[some]).clamp(max=CLIP**2).mean().sqrt())
