"""Bias, variance and cost in one figure."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from ..arguments.takes import takes
from ..arguments.tensor import Table
from ..summaries.bias_alarms import alarm_limit
from .frame import framed, legend_beside
from .palette import style
from .rows import rows_at


@takes(table=Table(("estimator", "at", "group", "bias_z")))
def bias_variance_cost(table: pd.DataFrame, ax: Axes, *, at: str | None = None, group: str = "all") -> Axes:
    """Plots the bias and noise of each estimator, relative to the norm of the exact gradient; the size of a marker shows the time of a gradient.

    A filled marker shows a detected bias; an open one, with an arrow to the left, the smallest bias that would have been detected.

    Args:
        table: `Comparison.to_dataframe()`.
        ax: Axes to draw on.
        at: Point of training; the last one if None.
        group: Name of a group of parameters.
    """
    at, rows = rows_at(table, at, group)
    rows = rows.dropna(subset="bias_z")
    names = list(dict.fromkeys(table.estimator))
    limit = alarm_limit(table)
    relative = bool((rows.truth > 0).all())  # at an optimum the exact gradient is zero, so nothing is relative to it
    quickest = rows.ms_per_gradient.min()
    handles = []
    for row in rows.itertuples():
        label, colour, marker = style(row.estimator, names)
        seen = abs(row.bias_z) > limit
        length = row.truth if relative else 1.0
        x, y = (row.bias if seen else row.bias_resolution) / length, np.sqrt(row.variance) / length
        area = 50 * row.ms_per_gradient / quickest
        ax.scatter(x, y, s=area, marker=marker, color=colour if seen else "none", edgecolors=colour, linewidths=1.6)
        if not seen:
            ax.annotate("", (x / 1.6, y), (x, y), arrowprops={"arrowstyle": "->", "color": colour, "lw": 1.2})
        handles.append(
            Line2D(
                [], [], color=colour, marker=marker, ls="none", ms=7, mfc=colour if seen else "none",
                label=f"{label}, {row.ms_per_gradient:.3g} ms",
            )
        )  # fmt: skip
    ax.set_xscale("log")
    ax.set_yscale("log")
    ax.margins(0.15)
    unit = " / norm of the gradient" if relative else ", nats"
    ax.set_xlabel(f"bias{unit} (filled: detected; open: upper limit)")
    ax.set_ylabel(f"noise of one draw{unit}")
    legend_beside(ax, handles=handles)
    ax.set_axisbelow(True)
    return framed(ax, f"Bias, noise and time of a gradient at the {at}: {group}")
