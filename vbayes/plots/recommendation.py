"""The estimators tried for a recommendation."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from ..arguments.takes import takes
from ..arguments.tensor import Table
from .frame import framed, legend_beside
from .palette import style


@takes(table=Table(("round", "estimator")))
def recommendation(table: pd.DataFrame, ax: Axes, *, chosen: str) -> Axes:
    """Plots the variance of each finalist, including that of the minibatch, against its time, with lines of equal cost and a ring around the chosen one.

    Args:
        table: `Recommendation.to_dataframe()`.
        ax: Axes to draw on.
        chosen: Name of the estimator recommended.
    """
    rows = table[table["round"] == table["round"].max()]
    names = list(dict.fromkeys(rows.estimator))
    total = rows.variance + rows.minibatch
    for row, y in zip(rows.itertuples(), total, strict=True):
        label, colour, marker = style(row.estimator, names)
        ax.scatter(row.ms_per_gradient, y, s=60, color=colour, marker=marker, label=label, zorder=3)
        if row.estimator == chosen:
            ax.scatter(row.ms_per_gradient, y, s=260, facecolors="none", edgecolors="black", linewidths=1.4, zorder=4)
    x = np.geomspace(rows.ms_per_gradient.min() / 1.5, rows.ms_per_gradient.max() * 1.5, 50)
    for cost in rows.cost:
        ax.plot(x, cost / x, color="#888888", lw=0.6, alpha=0.6, zorder=1)
    ax.set_xscale("log")
    ax.set_yscale("log")
    ax.set_xlim(x[0], x[-1])
    ax.set_ylim(total.min() / 2, total.max() * 2)
    ax.set_xlabel("ms per gradient (grey: equal variance × time)")
    ax.set_ylabel("variance of the gradient (nats²)")
    legend_beside(ax)
    return framed(ax, "Finalists, with the recommended one ringed")
