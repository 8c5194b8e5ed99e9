"""Gradient variance during training."""

from __future__ import annotations

import pandas as pd
from matplotlib.axes import Axes

from ..arguments.takes import takes
from ..arguments.tensor import Table
from .frame import framed
from .palette import style


@takes(table=Table(("estimator", "at", "group", "variance")))
def gradient_variance(table: pd.DataFrame, ax: Axes, *, group: str = "all") -> Axes:
    """Plots the variance of the gradient at each point of training, one line per estimator, on a logarithmic scale.

    Args:
        table: `Comparison.to_dataframe()`.
        ax: Axes to draw on.
        group: Name of a group of parameters.
    """
    rows = table[table.group == group]
    points = list(dict.fromkeys(rows["at"]))
    names = list(dict.fromkeys(rows.estimator))
    for i, name in enumerate(names):
        label, colour, marker = style(name, names)
        own = rows[rows.estimator == name]
        # Side by side, so that equal variances do not hide each other.
        step = min(0.05, 0.3 / len(names))
        x = [points.index(at) + step * (i - (len(names) - 1) / 2) for at in own["at"]]
        ax.errorbar(
            x,
            own.variance.to_numpy(),
            yerr=own.variance_se.to_numpy(),
            color=colour,
            marker=marker,
            label=label,
            ms=6,
            lw=1.4,
            mec="white",
            mew=0.5,
        )
    ax.set_yscale("log")
    steps = [at.removeprefix("step ") for at in points]  # points of a trajectory
    ax.set_xticks(range(len(points)), steps)
    if steps != points:
        ax.set_xlabel("step", fontsize=9)
    ax.set_xlim(-0.3, len(points) - 0.7)
    return framed(ax, group, grid="y", size=10)
