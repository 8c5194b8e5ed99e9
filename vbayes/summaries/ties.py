"""Decides when two numbers with errors count as equal."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd

from .joint import pairs_limit

FEWEST = 3  # seeds: a standard error of two is so uncertain that 14 of them may be chance
CLEARER = 10.0  # standard errors: where only more than these count, further seeds tell much more
ENOUGH = 5  # seeds, with which 6 standard errors count for one of five


def ties(rows: pd.DataFrame, at: str, group: str) -> list[str]:
    """The reference and those that can't be told from it by variance × time, from `differences`, in their order.

    If all are equally good and the reference came out best, any of them is told from it with a probability of about 5 %, whatever their number.
    """
    here = rows[(rows["at"] == at) & (rows.group == group)]
    ratio, se = here.variance_time_ratio.to_numpy(float), here.variance_time_ratio_se.to_numpy(float)
    with np.errstate(divide="ignore", invalid="ignore"):  # where one of the two has no noise
        wide = np.sqrt(
            np.log1p((se / ratio) ** 2)
        )  # of log ratio, if it is normal: on this scale one slow round does not make everything equal
        near = np.abs(np.log(ratio)) <= pairs_limit(len(here)) * wide
    return list(here.estimator[near])


def tied(gaps: Mapping[str, pd.Series]) -> list[str]:
    """Whose distance to the best may be chance; if all are equally good, any is called worse with a probability of at most 5 %.

    Args:
        gaps: Name → how far it is behind the best, one number for each seed. With two seeds or fewer nothing is known of chance, and only what is not behind is tied; see `too_few`.
    """
    return [name for name, gap in gaps.items() if gap.mean() <= chance(len(gap), len(gaps) + 1) * gap.sem()]


def chance(seeds: int, count: int) -> float:
    """Standard errors by which any of `count` equal estimators is behind the best of them in at most 5 % of races with so many seeds (Student's t); 0 for two seeds or fewer."""
    return pairs_limit(count, freedom=seeds - 1) if seeds >= FEWEST else 0.0


def too_few(seeds: int, count: int, *, tie: bool) -> str:
    """What to do where so many seeds can't tell what is chance, or can't tell estimators apart that are not far apart; empty where they can.

    Args:
        seeds: Of each estimator.
        count: Number of estimators.
        tie: Whether some could not be told apart.
    """
    if seeds < FEWEST:
        return f"With {'one seed' if seeds == 1 else 'two seeds'}, it is unknown how much of this is chance; seeds={ENOUGH} would tell."
    if not tie or chance(seeds, count) <= CLEARER:
        return ""
    more = next(n for n in range(max(seeds, ENOUGH), 100) if chance(n, count) <= CLEARER)
    return f"With {seeds} seeds, one of {count} may be {chance(seeds, count):.0f} standard errors behind the best by chance; with seeds={more}, {chance(more, count):.1f}."
