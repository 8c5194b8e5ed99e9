"""Mean, variance and bias of a random vector from blocks of draws, each with its standard error.

Draws are summed in B blocks of n. A statistic's standard error is the delete-a-block jackknife's (Efron & Stein 1981),
which needs no formula for the statistic and holds for heavy tails as far as anything does.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import torch
from scipy import stats
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


def collect(blocks: Iterable[Iterable[Tensor]], centre: Tensor, size: int) -> Moments:
    """Moments, on the CPU, from blocks of draws, each a sequence of chunks of shape (r, P)."""
    sums, squares = [], []
    for block in blocks:
        total, square = torch.zeros_like(centre), torch.zeros_like(centre)
        for chunk in block:
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


def _jackknife(statistic: Callable[[Tensor, Tensor, Tensor, float], Tensor], m: Moments) -> Measured:
    blocks = len(m.sums)
    value = statistic(m.sums.sum(0), m.squares.sum(0), m.centre, m.draws)
    without = statistic(m.sums.sum(0) - m.sums, m.squares.sum(0) - m.squares, m.centre, m.draws - m.size)
    se = math.sqrt((blocks - 1) / blocks * float((without - without.mean()).square().sum()))
    return float(value), se


def variance(m: Moments) -> Measured:
    """Trace of the covariance of one draw."""
    return _jackknife(_variance, m)


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


def bias_z(m: Moments, oracle: Moments | Tensor, rounding: float = 0.0) -> float:
    """How many standard errors the mean lies from the oracle's, as a z-score (standard normal without bias).

    A vector's distance is measured along one direction, and a direction chosen on the same draws would always find
    something: it is taken from half of the blocks of both, and the other half is tested along it. A scalar needs no
    direction and uses all blocks. Student's t of the blocks is turned into the z of the same probability.

    Args:
        m: The draws under test.
        oracle: Independent draws whose mean is right, or the right mean itself, (P,).
        rounding: A distance that rounding alone may make; within it z is 0.
    """
    right = oracle.mean if isinstance(oracle, Moments) else oracle.to(m.mean.dtype)
    if float((m.mean - right).norm()) <= rounding:
        return 0.0
    ours = m.sums / m.size
    theirs = oracle.sums / oracle.size if isinstance(oracle, Moments) else oracle.to(ours.dtype)[None]
    exact = len(theirs) == 1
    if ours.shape[1] == 1:
        direction = torch.ones(1, dtype=ours.dtype)
    else:
        direction = ours[::2].mean(0) - (theirs if exact else theirs[::2]).mean(0)
        ours, theirs = ours[1::2], theirs if exact else theirs[1::2]
    a, b = ours @ direction, theirs @ direction
    squared = float(a.var()) / len(a) + (0.0 if exact else float(b.var()) / len(b))
    difference = float(a.mean() - b.mean())
    if squared == 0.0:  # no noise at all: equal to rounding, or wrong
        return 0.0 if math.isclose(difference, 0.0, abs_tol=1e-6 * float(b.abs().mean() + a.abs().mean())) else math.inf
    t = difference / math.sqrt(squared)
    freedom = (len(a) if exact else min(len(a), len(b))) - 1
    return math.copysign(float(stats.norm.isf(max(stats.t.sf(abs(t), freedom), 1e-300))), t)
