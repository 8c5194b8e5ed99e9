"""Mean and variance of a random vector from blocks of draws, each with its standard error.

Draws are summed in B blocks of n. A statistic's standard error is the delete-a-block jackknife's (Efron & Stein 1981),
which needs no formula for the statistic and holds for heavy tails as far as anything does.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Moments:
    """Sums over blocks of draws g ∈ R^P.

    Attributes:
        sums: (B, P) Σ g in each block, float64.
        squares: (B, P) Σ (g − centre)² in each block, float64.
        centre: (P,) anything near the mean; it only saves digits.
        size: n, draws in a block.
    """

    sums: Tensor
    squares: Tensor
    centre: Tensor
    size: int

    @property
    def draws(self) -> int:
        """R = B n."""
        return len(self.sums) * self.size

    @property
    def mean(self) -> Tensor:
        """(P,)."""
        return self.sums.sum(0) / self.draws

    def select(self, index: Tensor) -> Moments:
        """The same for some coordinates."""
        return Moments(self.sums[:, index], self.squares[:, index], self.centre[index], self.size)


def collect(
    blocks: Iterable[Iterable[Tensor]],
    centre: Tensor,
    size: int,
    look: Callable[[int, Tensor], object] = lambda block, chunk: None,
) -> Moments:
    """Moments, on the CPU, from blocks of draws, each a sequence of chunks of shape (r, P).

    Args:
        blocks: Of `size` draws each.
        centre: As in `Moments`.
        size: n.
        look: Is shown every chunk, with the number of its block.
    """
    sums, squares = [], []
    for number, block in enumerate(blocks):
        total, square = torch.zeros_like(centre), torch.zeros_like(centre)
        for chunk in block:
            look(number, chunk)
            centre = centre.to(chunk.dtype).to(centre.dtype)  # exactly what is taken off the draws
            total += chunk.sum(0, dtype=torch.float64).cpu()
            square += (chunk - centre.to(chunk)).square().sum(0, dtype=torch.float64).cpu()
        sums.append(total)
        squares.append(square)
    return Moments(torch.stack(sums), torch.stack(squares), centre, size)


Measured = tuple[float, float]
"""A value and its standard error."""


def _variance(sums: Tensor, squares: Tensor, centre: Tensor, draws: float) -> Tensor:
    """Trace of the covariance, unbiased; sums and squares (..., P)."""
    return ((squares - draws * (sums / draws - centre).square()).sum(-1) / (draws - 1)).clamp(min=0.0)


def _squared_norm(sums: Tensor, squares: Tensor, centre: Tensor, draws: float) -> Tensor:
    """‖E g‖², unbiased: the plain ‖mean‖² is too large by variance / draws."""
    return (sums / draws).square().sum(-1) - _variance(sums, squares, centre, draws) / draws


def spread(without: Tensor) -> float:
    """The jackknife's standard error, from the B values that leave one block out."""
    return math.sqrt((len(without) - 1) / len(without) * float((without - without.mean()).square().sum()))


def _without(statistic: Callable[[Tensor, Tensor, Tensor, float], Tensor], m: Moments) -> Tensor:
    return statistic(m.sums.sum(0) - m.sums, m.squares.sum(0) - m.squares, m.centre, m.draws - m.size)


def _jackknife(statistic: Callable[[Tensor, Tensor, Tensor, float], Tensor], m: Moments) -> Measured:
    value = statistic(m.sums.sum(0), m.squares.sum(0), m.centre, m.draws)
    return float(value), spread(_without(statistic, m))


def variance(m: Moments) -> Measured:
    """Trace of the covariance of one draw."""
    return _jackknife(_variance, m)


def variances_without(m: Moments) -> Tensor:
    """(B,) the variance with one block left out: two estimators that saw the same draws can be compared by them in pairs."""
    return _without(_variance, m)


def mean_norm(m: Moments) -> Measured:
    """‖E g‖; 0 where the noise drowns it."""
    return _jackknife(lambda *sums: _squared_norm(*sums).clamp(min=0.0).sqrt(), m)


def root_mean_square(m: Moments) -> float:
    """√E‖g‖²: how large a gradient typically is."""
    norm, noise = (float(f(m.sums.sum(0), m.squares.sum(0), m.centre, m.draws)) for f in (_squared_norm, _variance))
    return math.sqrt(max(norm + noise, 0.0))


def snr(m: Moments) -> Measured:
    """‖E g‖ / √(trace of the covariance); infinite without noise."""
    return _jackknife(lambda *sums: _squared_norm(*sums).clamp(min=0.0).sqrt() / _variance(*sums).sqrt(), m)
