"""The cost of a gradient of given precision."""

from __future__ import annotations

import pandas as pd
from matplotlib.axes import Axes

from ..arguments.takes import takes
from ..arguments.tensor import Table
from .frame import framed, points_across
from .palette import style
from .rows import rows_at


@takes(table=Table(("estimator", "at", "group", "variance")))
def variance_time(table: pd.DataFrame, ax: Axes, *, at: str | None = None, group: str = "all") -> Axes:
    """Plots variance × time of each estimator relative to the best one of the same bound, on a logarithmic scale.

    Args:
        table: `Comparison.to_dataframe()`.
        ax: Axes to draw on.
        at: Point of training; the last one if None.
        group: Name of a group of parameters.
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
    points_across(ax, labels, ratios, errors, colours)
    for label, ratio, error in zip(labels, ratios, errors, strict=True):
        words = f"{ratio:,.0f}×" if ratio >= 10 else f"{ratio:.2g}×"
        ax.annotate(words, (ratio + error, label), (8, 0), textcoords="offset points", va="center", fontsize=9)
    ax.set_xscale("log")
    ax.set_xlim(min(0.5, (ratios - errors)[ratios > errors].min() / 1.3), (ratios + errors).max() * 5)
    ax.set_xlabel("time for equal precision, best = 1")
    ax.set_axisbelow(True)
    return framed(ax, f"variance × time at the {at}", grid="x", size=10)
