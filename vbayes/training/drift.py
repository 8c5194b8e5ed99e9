"""Whether iterates are stationary or still drifting."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

MOST = 1_000_000  # numbers, of which so many are looked at, from the first on
CLIP = 10.0  # standard errors: one parameter that runs away is not to hide in the mean of many, nor to be all of it


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

    About 1 where they are stationary and the parts long: a split R-hat on means of batches (Gelman et al. 2013, section 11.4). The standard error is that of
    neighbouring parts' differences.

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
    some = variance > 0  # what never moves is stationary
    if not some.any():
        return 0.0
    return float((moved[some].square() / variance[some]).clamp(max=CLIP**2).mean().sqrt())
