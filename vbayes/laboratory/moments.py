"""Mean and variance of a random vector from blocks of draws, each with its standard error.

Draws are summed in B blocks of n. A statistic's standard error is the delete-a-block jackknife's (Efron & Stein 1981),
which needs no formula for the statistic and is as valid for heavy tails as any method can be.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import torch
from torch import Tensor

NEAR = 2.0  # standard errors from 0 within which the error of a root is computed differently
TINY = 1e-300
TOGETHER = 2**18  # numbers processed together, which fit into a cache


@dataclass(frozen=True)
class Moments:
    """Sums over blocks of draws g ∈ R^P.

    Attributes:
        sums: (B, P) Σ g in each block, float64.
        squares: (B, P) Σ (g − centre)² in each block, float64.
        centre: (P,) any value near the mean, to save digits.
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
        """(P,) the mean."""
        return self.sums.sum(0) / self.draws

    @functools.cached_property
    def whole(self) -> tuple[Tensor, Tensor]:
        """‖E g‖² and the trace of the covariance, both unbiased."""
        return _norm_and_noise(self.sums.sum(0), self.squares.sum(0), self.centre, self.draws)

    @functools.cached_property
    def without(self) -> tuple[Tensor, Tensor]:
        """As `whole`, with one block left out; (B,) each."""
        sums, squares = self.sums.sum(0) - self.sums, self.squares.sum(0) - self.squares
        return _norm_and_noise(sums, squares, self.centre, self.draws - self.size)

    def select(self, index: Tensor) -> Moments:
        """The moments of some coordinates."""
        return Moments(self.sums[:, index], self.squares[:, index], self.centre[index], self.size)


def _norm_and_noise(sums: Tensor, squares: Tensor, centre: Tensor, draws: int) -> tuple[Tensor, Tensor]:
    """Squared norm of the mean and trace of the covariance, (...) each, from (..., P)."""
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
        blocks: Blocks of `size` draws each.
        centre: As in `Moments`.
        size: Number of draws in a block, n.
        look: Function that is called with chunks of the draws in double precision, and the number of their block.
    """
    sums, squares = [], []
    for number, block in enumerate(blocks):
        total, square = torch.zeros_like(centre), torch.zeros_like(centre)
        for chunk in block:
            for part in chunk.split(max(1, TOGETHER // chunk.shape[1])):
                draws = part.double()
                ones = draws.new_ones(len(draws))
                # Products are many times as fast as sums over the first dimension.
                total += (ones @ draws).cpu()
                square += (ones @ (draws - centre.to(draws)).square_()).cpu()
                look(number, draws)
        sums.append(total)
        squares.append(square)
    return Moments(torch.stack(sums), torch.stack(squares), centre, size)


Measured = tuple[float, float]
"""A value and its standard error."""


def spread(without: Tensor) -> float:
    """The jackknife standard error, from the B values with one block left out."""
    return math.sqrt((len(without) - 1) / len(without) * float((without - without.mean()).square().sum()))


def _jackknife(m: Moments, statistic: Callable[[Tensor, Tensor], Tensor]) -> Measured:
    return float(statistic(*m.whole)), spread(statistic(*m.without))


def variance(m: Moments) -> Measured:
    """Trace of the covariance of a single draw."""
    return _jackknife(m, lambda norm, noise: noise)


def root(squared: float, squared_se: float, along: float, clear: Callable[[], Measured]) -> Measured:
    """The root of an unbiased estimate of a squared length, which noise may have made negative, and its standard error.

    Near 0 the error of the root does not follow from that of the square: it is half of the larger distance between the root and the ends of its
    interval, from two standard errors of the square or two of the vector along its own direction, whichever is larger. If the
    square is not above 0, twice the error is an upper bound of the length.

    Args:
        squared: The estimate.
        squared_se: Its standard error.
        along: The variance of the vector along one direction.
        clear: The root and its error for a length that is clearly above 0.
    """
    if not squared_se > 0 or squared > NEAR * squared_se:
        return clear()
    square, width = max(squared, 0.0), math.sqrt(along)
    value, whole = math.sqrt(square), math.sqrt(square + along)
    above = max(math.sqrt(square + 2 * squared_se), whole + 2 * width) - value
    below = value - min(math.sqrt(max(squared - 2 * squared_se, 0.0)), max(whole - 2 * width, 0.0))
    return value, max(above, below) / 2


def noise_along(means: Tensor) -> float:
    """The variance of the mean of (B, P) block means along one of its main directions: Σ λ² / Σ λ over the eigenvalues of its covariance."""
    centred = means - means.mean(0)
    gram = centred @ centred.T
    total = float(gram.trace())
    return float(gram.square().sum()) / total / (len(means) - 1) / len(means) if total > 0 else 0.0


def _root(
    m: Moments,
    squared: Callable[[Tensor, Tensor], Tensor],
    clear: Callable[[Tensor, Tensor], Tensor],
    scale: float = 1.0,
) -> Measured:
    return root(*_jackknife(m, squared), scale * noise_along(m.sums / m.size), lambda: _jackknife(m, clear))


def mean_norm(m: Moments) -> Measured:
    """‖E g‖; 0 if it is below the noise, and then twice the error is an upper bound."""
    return _root(m, lambda norm, noise: norm, lambda norm, noise: norm.clamp(min=0.0).sqrt())


def snr(m: Moments) -> Measured:
    """‖E g‖ / √(trace of the covariance); infinite without noise. Its error is computed as for `mean_norm`."""
    unit = 1 / max(variance(m)[0], TINY)
    return _root(
        m, lambda norm, noise: norm / noise, lambda norm, noise: norm.clamp(min=0.0).sqrt() / noise.sqrt(), unit
    )


def heaviest_block(m: Moments) -> float:
    """The largest fraction of the variance in one of the B blocks: about 1/B for light tails. If it is most of the variance, tails are
    so heavy that standard errors can't be trusted, as the draws that matter most may not have occurred yet.
    """
    own = m.squares - 2 * (m.mean - m.centre) * (m.sums - m.size * m.centre) + m.size * (m.mean - m.centre).square()
    parts = own.sum(-1).clamp(min=0.0)  # Σ (g − mean)² in each block
    return float(parts.max() / parts.sum()) if parts.sum() > 0 else 1 / len(parts)


def root_mean_square(m: Moments) -> float:
    """√E‖g‖²: the typical size of a gradient."""
    return math.sqrt(max(float(sum(m.whole)), 0.0))


def variances_without(m: Moments) -> Tensor:
    """(B,) the variance with one block left out, for paired comparisons of two estimators with the same draws."""
    return m.without[1]
