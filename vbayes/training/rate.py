"""Finds the initial learning rate by trials."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

FIRST = 0.03  # that it begins with: right for a posterior of about unit scale
BETWEEN = 10**0.5  # the factor between two that are tried
LOWEST, HIGHEST = 1e-5, 0.4
TRIED = 200  # steps of a trial: a tenth of a second or less for most pairs


def find_rate(trial: Callable[[float, int], list[float]]) -> float:
    """Finds a learning rate by hill climbing on a grid of factors √10, as long as trials end higher.

    A trial looks a hundred steps ahead, so it prefers high rates; that suits a first phase, as lower rates follow.

    Args:
        trial: (rate, steps) → the ELBO before each of so many steps, nats; fewer where one of them could not be taken. The same random numbers each time.

    Returns:
        A rate; the lowest, where no trial could be finished.
    """
    known: dict[int, float] = {}

    def end(number: int) -> float:
        """The mean ELBO over the last quarter of a trial."""
        if number not in known:
            rate = FIRST * BETWEEN**number
            values = trial(rate, TRIED) if LOWEST <= rate <= HIGHEST else []
            known[number] = float(np.mean(values[-TRIED // 4 :])) if len(values) == TRIED else -math.inf
        return known[number]

    best = 0
    while FIRST * BETWEEN ** (best - 1) > LOWEST and (end(best - 1) > end(best) or end(best) == -math.inf):
        best -= 1
    if best == 0:
        while end(best + 1) > end(best):
            best += 1
    return float(FIRST * BETWEEN**best)
