"""How far the largest of several numbers may be off by chance: the one place where a number of standard errors is adjusted for the number of tests."""

from __future__ import annotations

import functools
import math

from scipy import stats

LEVEL = 0.05  # chance of any false alarm among tests that are judged together


@functools.lru_cache(maxsize=1000)
def joint_limit(tests: int, *, level: float = LEVEL, freedom: float = math.inf) -> float:
    """Standard errors that the largest of several |z| exceeds with probability `level` if there is nothing to see.

    c = F⁻¹(1 − p/2), p = 1 − (1 − level)^(1/tests), with F the distribution function of Student's t, or of the normal for infinite `freedom`.

    The probability is exact for independent tests. For normal tests with any correlations it is at most `level`, since P(all |z| ≤ c) is at least the product of the single
    probabilities.

    Args:
        tests: Number of tests judged together, at least 1.
        level: Probability of any false alarm among them.
        freedom: Degrees of freedom of the standard errors: one less than the replicas from which each was computed.

    References:
        Šidák 1967, Rectangular confidence regions for the means of multivariate normal distributions, JASA 62.
    """
    each = -math.expm1(math.log1p(-level) / max(tests, 1))
    return float(stats.norm.isf(each / 2) if math.isinf(freedom) else stats.t.isf(each / 2, freedom))


def pairs_limit(count: int, *, level: float = LEVEL, freedom: float = math.inf) -> float:
    """`joint_limit` for the differences between all pairs of so many numbers, for differences from the best of them: any of them may come out best by chance.

    That some of `count` equal numbers is told from the best of them has at most probability `level`; for normal numbers with equal errors it is the studentised range's.
    """
    return joint_limit(math.comb(count, 2), level=level, freedom=freedom)
