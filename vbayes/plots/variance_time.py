"""What a gradient of given precision costs."""

from __future__ import annotations

import pandas as pd
from matplotlib.axes import Axes

from ..arguments.takes import takes
from ..arguments.tensor import Table
from .frame import framed
from .palette import style
from .rows import rows_at


@takes(table=Table(("estimator", "at", "group", "variance")))
def variance_time(table: pd.DataFrame, ax: Axes, *, at: str | None = None, group: str = "all") -> Axes:
    """Variance × time of each estimator against that of the best one of the same bound, as bars on a logarithmic scale.

    Args:
        table: `Comparison.to_dataframe()`.
        ax: Where to draw.
        at: Point of training; the last if None.
        group: Of parameters.
    """
    at, rows = rows_at(table, at, group)
    best = rows.variance_time.groupby(rows.bound).transform("min").replace(0.0, 1.0)
    rows = rows.assign(ratio=rows.variance_time / best, error=rows.variance_time_se / best)
    rows = rows.sort_values(["bound", "ratio"], ascending=False)
    rows = pd.concat([rows[rows.bound != "ELBO"], rows[rows.bound == "ELBO"]])
    names = list(dict.fromkeys(table.estimator))
    ratios, errors = rows.ratio, rows.error
    labels, colours, _ = zip(*(style(name, names) for name in rows.estimator), strict=True)
    labels = tuple(
        label if bound == "ELBO" else f"{label} [{bound.split()[0]}]"
        for label, bound in zip(labels, rows.bound, strict=True)
    )
    bars = ax.barh(labels, ratios, xerr=errors, color=colours, height=0.62, ecolor="#444444")
    ax.bar_label(bars, [f"{r:,.0f}×" if r >= 10 else f"{r:.2g}×" for r in ratios], padding=6, fontsize=9)
    ax.set_xscale("log")
    ax.set_xlim(0.5, ratios.max() * 12)
    ax.set_xlabel("time for equal precision, best = 1")
    ax.set_axisbelow(True)
    return framed(ax, f"variance × time at the {at}", grid="x", size=10)
