"""Estimators whose gradients have such heavy tails that standard errors can't be trusted."""

from __future__ import annotations

import pandas as pd

from .listed import listed

MOST = 0.5  # fraction of the variance in a single block of draws
ROUNDING = 1e-10  # fraction of the largest squared gradient below which a variance is only rounding


def heavy_tailed(table: pd.DataFrame) -> str:
    """Describes the estimators for which one block of draws carries most of the variance; empty if there are none.

    Args:
        table: `Comparison.to_dataframe()`; one from an older file has no `heaviest_block`.
    """
    if "heaviest_block" not in table or table.empty:
        return ""
    real = table.variance > ROUNDING * (table.variance + table.mean_norm**2).max()
    heavy = table[real & (table.heaviest_block > MOST)]
    if heavy.empty:
        return ""
    return (
        f"Heavy tails: one block of draws carries up to {heavy.heaviest_block.max():.0%} of the variance of {listed(list(dict.fromkeys(heavy.estimator)))}. Standard errors "
        "are too small there, and the variance may be. Use more replicas until no block stands out; otherwise don't trust it."
    )
