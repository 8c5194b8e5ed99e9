"""Noise and cost of a gradient, side by side."""

from __future__ import annotations

import pandas as pd
from matplotlib.axes import Axes

from ..arguments.takes import takes
from ..arguments.tensor import Table
from .frame import framed, points_across
from .palette import style
from .rows import rows_at


@takes(table=Table(("estimator", "at", "group", "variance")))
def variance_bars(table: pd.DataFrame, ax: Axes, *, at: str | None = None, group: str = "all") -> Axes:
    """Plots the variance of each estimator's gradient on a logarithmic scale, labelled with the time of a gradient in milliseconds.

    Args:
        table: `Comparison.to_dataframe()`.
        ax: Axes to draw on.
        at: Point of training; the last one if None.
        group: Name of a group of parameters.
    """
    at, rows = rows_at(table, at, group)
    rows = rows.sort_values("variance", ascending=False)
    names = list(dict.fromkeys(table.estimator))
    labels, colours, _ = zip(*(style(name, names) for name in rows.estimator), strict=True)
    shown = rows.variance.clip(lower=rows.variance[rows.variance > 0].min() / 10)
    points_across(ax, labels, shown, rows.variance_se, colours)
    for label, end, ms in zip(labels, shown + rows.variance_se, rows.ms_per_gradient, strict=True):
        ax.annotate(f"{ms:.3g} ms", (end, label), (8, 0), textcoords="offset points", va="center", fontsize=9)
    ax.set_xscale("log")
    ax.set_xlim(shown.min() / 3, shown.max() * 30)
    ax.set_xlabel("variance of the gradient (nats², ± 1 SE), with time per gradient")
    ax.set_axisbelow(True)
    return framed(ax, f"Gradient noise at the {at}: {group}", grid="x")
