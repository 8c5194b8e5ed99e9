"""The ELBO of several fits during training."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd
from matplotlib.axes import Axes

from ..arguments.kind import Several
from ..arguments.takes import takes
from ..arguments.tensor import Table
from ..arguments.whole import Whole
from .frame import framed


@takes(tables=Several(Table(("step", "elbo_per_datum"))), best=Whole(0))
def restarts(tables: Sequence[pd.DataFrame], best: int, ax: Axes, *, bound: str = "ELBO") -> Axes:
    """Plots the ELBO per datum of each fit, as a running mean over a fiftieth of the steps, with the best fit in colour.

    Args:
        tables: `Fit.history` of each fit.
        best: Index of the best fit.
        ax: Axes to draw on.
        bound: As for `history`.
    """
    Whole(0, len(tables) - 1)("best", best)
    trends = [t.elbo_per_datum.rolling(max(1, len(t) // 50), center=True, min_periods=1).mean() for t in tables]
    for number, (table, trend) in enumerate(zip(tables, trends, strict=True)):
        if number != best:
            ax.plot(table.step, trend, color="0.65", lw=1)
    ax.plot([], [], color="0.65", lw=1, label=f"{len(tables) - 1} other starts")
    ax.plot(tables[best].step, trends[best], color="#0072B2", lw=2, label=f"best: start {best}")
    values = pd.concat(trends)
    low, high = values.quantile(0.05), values.max()
    if high > low:
        ax.set_ylim(low - 0.1 * (high - low), high + 0.1 * (high - low))
    ax.set_xlabel("step")
    ax.set_ylabel(f"{bound} per datum (nats)")
    ax.legend(frameon=False, loc="lower right")
    return framed(ax, f"{bound} during training from several starts")
