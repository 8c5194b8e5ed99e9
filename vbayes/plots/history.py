"""The ELBO during training."""

from __future__ import annotations

import pandas as pd
from matplotlib.axes import Axes

from ..arguments.takes import takes
from ..arguments.tensor import Table
from .frame import framed


@takes(table=Table(("step", "elbo_per_datum")))
def history(table: pd.DataFrame, ax: Axes, *, bound: str = "ELBO") -> Axes:
    """Plots the ELBO, or other bound, per datum at each step (faint), with its running mean over a fiftieth of the steps if there are at least a hundred.

    Args:
        table: `Fit.history`.
        ax: Axes to draw on.
        bound: Name of the bound, as in `Fit.bound`.
    """
    window = max(1, len(table) // 50)
    if window > 1:
        ax.plot(table.step, table.elbo_per_datum, color="#56B4E9", alpha=0.45, lw=0.8, label="each step")
    trend = table.elbo_per_datum.rolling(window, center=True, min_periods=1).mean()
    ax.plot(
        table.step,
        trend,
        color="#0072B2",
        lw=2,
        marker="o" if len(table) < 10 else None,
        label=f"mean of {window} steps" if window > 1 else "each step",
    )
    # The range leaves out the first steps, which are far away from the rest.
    low, high = table.elbo_per_datum.quantile(0.01), table.elbo_per_datum.max()
    if high > low:
        ax.set_ylim(low - 0.1 * (high - low), high + 0.1 * (high - low))
    ax.set_xlabel("step")
    ax.set_ylabel(f"{bound} per datum (nats)")
    ax.legend(frameon=False, loc="lower right")
    return framed(ax, f"{bound} during training: higher is better")
