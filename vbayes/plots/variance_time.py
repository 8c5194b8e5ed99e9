"""What a gradient of given precision costs."""

from __future__ import annotations

import pandas as pd
from matplotlib.axes import Axes

from .palette import GRID, style


def variance_time(table: pd.DataFrame, ax: Axes, *, at: str = "end", group: str = "all") -> Axes:
    """Variance × time of each estimator against the best one's, as bars on a logarithmic scale, the best on top.

    Args:
        table: `Comparison.to_dataframe()`.
        ax: Where to draw.
        at: Point of training.
        group: Of parameters.
    """
    rows = table[(table["at"] == at) & (table.group == group)].sort_values("variance_time", ascending=False)
    names = list(dict.fromkeys(table.estimator))
    best = rows.variance_time.min() or 1.0
    ratios, errors = rows.variance_time / best, rows.variance_time_se / best
    labels, colours, _ = zip(*(style(name, names) for name in rows.estimator), strict=True)
    bars = ax.barh(labels, ratios, xerr=errors, color=colours, height=0.62, ecolor="#444444")
    ax.bar_label(bars, [f"{r:,.0f}×" if r >= 10 else f"{r:.2g}×" for r in ratios], padding=6, fontsize=9)
    ax.set_xscale("log")
    ax.set_xlim(0.5, ratios.max() * 12)
    ax.set_xlabel("time for the same precision, best = 1")
    ax.set_title(f"variance × time at the {at}", loc="left", fontsize=10)
    ax.grid(axis="x", **GRID)
    ax.set_axisbelow(True)
    ax.spines[["top", "right"]].set_visible(False)
    return ax
