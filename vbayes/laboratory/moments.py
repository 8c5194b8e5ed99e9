"""Mean and variance of a random vector from blocks of draws, each with its standard error.

Draws are summed in B blocks of n. A statistic's standard error is the delete-a-block jackknife's (Efron & Stein 1981),
which needs no formula for the statistic and holds for heavy tails as far as anything does.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import torch
from torch import Tensor

TOGETHER = 2**18  # numbers looked at together: they fit into a cache


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

    @functools.cached_property
    def whole(self) -> tuple[Tensor, Tensor]:
        """‖E g‖² and the trace of the covariance, both unbiased."""
        return _norm_and_noise(self.sums.sum(0), self.squares.sum(0), self.centre, self.draws)

    @functools.cached_property
    def without(self) -> tuple[Tensor, Tensor]:
        """(B,) each: the same with one block left out."""
        sums, squares = self.sums.sum(0) - self.sums, self.squares.sum(0) - self.squares
        return _norm_and_noise(sums, squares, self.centre, self.draws - self.size)

    def select(self, index: Tensor) -> Moments:
        """The same for some coordinates."""
        return Moments(self.sums[:, index], self.squares[:, index], self.centre[index], self.size)


def _norm_and_noise(sums: Tensor, squares: Tensor, centre: Tensor, draws: int) -> tuple[Tensor, Tensor]:
    """From (..., P): (...) each."""
    mean = sums / draws
    noise = ((squares - draws * (mean - centre).square()).sum(-1) / (draws - 1)).clamp(min=0.0)
    return mean.square().sum(-1) - noise / draws, noise  # the plain ‖mean‖² is too large by noise / draws


def collect(
    blocks: Iterable[Iterable[Tensor]],
    centre: Tensor,
    size: int,
    look: Callable[[int, Tensor], object] = lambda block, draws: None,
) -> Moments:
    """Moments, on the CPU, from blocks of draws, each a sequence of chunks of shape (r, P).

    Args:
        blocks: Of `size` draws each.
        centre: As in `Moments`.
        size: n.
        look: Is shown all draws, some at a time in double precision, with the number of their block.
    """
    sums, squares = [], []
    for number, block in enumerate(blocks):
        total, square = torch.zeros_like(centre), torch.zeros_like(centre)
        for chunk in block:
            for part in chunk.split(max(1, TOGETHER // chunk.shape[1])):
                draws = part.double()
                ones = draws.new_ones(len(draws))
                # Products are many times as quick as sums over the first of two dimensions.
                total += (ones @ draws).cpu()
                square += (ones @ (draws - centre.to(draws)).square_()).cpu()
                look(number, draws)
        sums.append(total)
        squares.append(square)
    return Moments(torch.stack(sums), torch.stack(squares), centre, size)


Measured = tuple[float, float]
"""A value and its standard error."""


def spread(without: Tensor) -> float:
    """The jackknife's standard error, from the B values that leave one block out."""
    return math.sqrt((len(without) - 1) / len(without) * float((without - without.mean()).square().sum()))


def _jackknife(m: Moments, statistic: Callable[[Tensor, Tensor], Tensor]) -> Measured:
    return float(statistic(*m.whole)), spread(statistic(*m.without))


def variance(m: Moments) -> Measured:
    """Trace of the covariance of one draw."""
    return _jackknife(m, lambda norm, noise: noise)


def mean_norm(m: Moments) -> Measured:
    """‖E g‖; 0 where the noise drowns it."""
    return _jackknife(m, lambda norm, noise: norm.clamp(min=0.0).sqrt())


def snr(m: Moments) -> Measured:
    """‖E g‖ / √(trace of the covariance); infinite without noise."""
    return _jackknife(m, lambda norm, noise: norm.clamp(min=0.0).sqrt() / noise.sqrt())


def root_mean_square(m: Moments) -> float:
    """√E‖g‖²: how large a gradient typically is."""
    return math.sqrt(max(float(sum(m.whole)), 0.0))


def variances_without(m: Moments) -> Tensor:
    """(B,) the variance with one block left out: two estimators that saw the same draws can be compared by them in pairs."""
    return m.without[1]
