"""Whether several sets of draws come from one distribution."""

from __future__ import annotations

import numpy as np
from scipy.special import ndtri
from scipy.stats import rankdata

AGREE = 1.05  # a larger value means different distributions: their means vary by a third of an sd, or their widths by as much


def r_hat(draws: np.ndarray) -> np.ndarray:
    """Rank-normalised R̂, the larger of those for location and scale; chains are not split, as draws of a guide are independent.

    Args:
        draws: (M, S, …) draws of M chains.

    Returns:
        (…) values of R̂; 1 if all chains agree.

    References:
        Vehtari, Gelman, Simpson, Carpenter & Bürkner 2021, Rank-normalization, folding, and localization, arXiv:1903.08008.
    """
    folded = np.abs(draws - np.median(draws, axis=(0, 1)))
    return np.maximum(_of_ranks(draws), _of_ranks(folded))


def _of_ranks(draws: np.ndarray) -> np.ndarray:
    chains, count, *rest = draws.shape
    ranks = rankdata(draws.reshape(chains * count, -1), axis=0)
    z = ndtri((ranks - 0.375) / (chains * count + 0.25)).reshape(chains, count, -1)
    within, between = z.var(1, ddof=1).mean(0), z.mean(1).var(0, ddof=1)
    same = within == 0
    found = np.sqrt((count - 1) / count + between / np.where(same, 1.0, within))
    return np.where(same, np.where(between > 0, np.inf, 1.0), found).reshape(rest)
