"""The distance of a mean of draws from the true mean, and the smallest distance that could be detected."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from scipy import stats
from torch import Tensor

from .moments import Moments, noise_along, root, spread

SEEN = 4.0  # standard errors that make a bias


@dataclass(frozen=True)
class Bias:
    """The distance of a mean from the true one.

    Attributes:
        z: In standard errors, as a z-score: standard normal without bias.
        norm: ‖E g − true‖; 0 if it is below the noise.
        norm_se: Its standard error; if the distance is below the noise, half of an upper bound for it.
        resolution: The smallest distance that would have made |z| 4, on average.
        oracle_share: The oracle's fraction of the squared error of the difference.
    """

    z: float
    norm: float
    norm_se: float
    resolution: float
    oracle_share: float


UNKNOWN = Bias(math.nan, math.nan, math.nan, math.nan, math.nan)


def bias(m: Moments, oracle: Moments | Tensor, rounding: float = 0.0) -> Bias:
    """Measures the bias of a vector.

    The distance is tested along one direction. Since a direction chosen from the same draws would always show a bias, it is computed
    from half of the blocks of both, and the other half is tested along it. A scalar needs no direction and uses all blocks.
    Student's t of the blocks is converted to the z of the same probability.

    Args:
        m: The draws under test.
        oracle: Independent draws with the true mean, or the true mean itself, (P,).
        rounding: A distance that rounding alone may cause; within it z is 0.
    """
    ours = m.sums / m.size
    known = isinstance(oracle, Tensor)
    theirs = oracle.to(ours.dtype)[None] if isinstance(oracle, Tensor) else oracle.sums / oracle.size
    noise = _noise(ours) + (0.0 if known else _noise(theirs))
    norm, norm_se = _norm(ours, theirs)
    if float((ours.mean(0) - theirs.mean(0)).norm()) <= rounding:
        return Bias(0.0, norm, norm_se, rounding, 0.0)
    if ours.shape[1] == 1:
        direction, chosen_by = torch.ones(1, dtype=ours.dtype, device=ours.device), 0.0
    else:
        direction = ours[::2].mean(0) - (theirs if known else theirs[::2]).mean(0)
        ours, theirs = ours[1::2], theirs if known else theirs[1::2]
        chosen_by = 2 * noise  # from half of the blocks
    a, b = ours @ direction, theirs @ direction
    own, its = float(a.var()) / len(a), 0.0 if known else float(b.var()) / len(b)
    difference = float(a.mean() - b.mean())
    if own + its == 0.0:  # no noise at all: equal up to rounding, or biased
        equal = math.isclose(difference, 0.0, abs_tol=1e-6 * float(b.abs().mean() + a.abs().mean()))
        return Bias(0.0 if equal else math.inf, norm, norm_se, rounding, 0.0)
    t = difference / math.sqrt(own + its)
    freedom = (len(a) if known else min(len(a), len(b))) - 1
    z = math.copysign(float(stats.norm.isf(max(stats.t.sf(abs(t), freedom), 1e-300))), t)
    along = (own + its) / float(direction.square().sum())
    return Bias(z, norm, norm_se, max(rounding, _resolution(along, chosen_by)), its / (own + its))


def _noise(blocks: Tensor) -> float:
    """Trace of the covariance of the mean of (B, P) block means."""
    return float(blocks.var(0).sum()) / len(blocks)


def _norm(ours: Tensor, theirs: Tensor) -> tuple[float, float]:
    """The distance of the means of (B, P) and (B′, P), and its standard error; B′ = 1 stands for the true mean, without noise."""

    def squared(a: Tensor, b: Tensor, noise: Tensor) -> Tensor:
        return (a - b).square().sum(-1) - noise

    def means_and_noise(x: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """The mean and its noise, for all blocks and for all but one."""
        count = len(x)
        if count == 1:
            return x[0], x.new_zeros(()), x, x.new_zeros(1)
        mean = x.mean(0)
        deviation = (x - mean).square().sum(-1)
        total = deviation.sum()
        # The sum of squares about the mean of the other blocks, if one is left out.
        left = total - deviation * count / (count - 1)
        return mean, total / (count * (count - 1)), mean + (mean - x) / (count - 1), left / ((count - 1) * (count - 2))

    a, a_noise, a_without, a_left = means_and_noise(ours)
    b, b_noise, b_without, b_left = means_and_noise(theirs)
    value = squared(a, b, a_noise + b_noise)
    parts = [squared(a_without, b, a_left + b_noise)]
    parts += [squared(a, b_without, a_noise + b_left)] if len(theirs) > 1 else []

    def clear() -> tuple[float, float]:
        return float(value.clamp(min=0.0).sqrt()), math.hypot(*(spread(part.clamp(min=0.0).sqrt()) for part in parts))

    along = sum(noise_along(x) for x in (ours, theirs) if len(x) > 1)
    return root(float(value), math.hypot(*map(spread, parts)), along, clear)


def _resolution(along: float, chosen_by: float) -> float:
    """The β at which z is `SEEN`: along a direction β u + noise, a bias β u has the component β².

    z = β² / √((β² + s²) τ²), with s² the noise of the direction and τ² that of the mean along it.

    Args:
        along: τ².
        chosen_by: s².
    """
    squared = SEEN**2 * along
    if chosen_by == 0.0:
        return math.sqrt(squared)
    return math.sqrt((squared + math.sqrt(squared**2 + 4 * squared * chosen_by)) / 2)
