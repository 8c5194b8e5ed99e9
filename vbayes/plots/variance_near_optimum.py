"""Gradient noise on the way to the optimum."""

from __future__ import annotations

import pandas as pd
from matplotlib.axes import Axes

from ..arguments.takes import takes
from ..arguments.tensor import Table
from .frame import framed, legend_beside
from .palette import style


@takes(table=Table(("estimator", "at", "group", "variance")))
def variance_near_optimum(table: pd.DataFrame, ax: Axes, *, group: str = "all") -> Axes:
    """Plots the variance against the difference of the ELBO from that at the best measured point, which is left out; the optimum is to the right.

    Args:
        table: `Comparison.to_dataframe()`, preferably of a comparison with `at="trajectory"`.
        ax: Axes to draw on.
        group: Name of a group of parameters.
    """
    rows = table[table.group == group]
    gap = rows.elbo_per_datum.max() - rows.elbo_per_datum
    rows = rows.assign(gap=gap)[gap > 0]
    names = list(dict.fromkeys(table.estimator))
    for name in names:
        label, colour, marker = style(name, names)
        own = rows[rows.estimator == name].sort_values("gap")
        ax.errorbar(
            own.gap, own.variance, yerr=own.variance_se, color=colour, marker=marker, label=label, ms=6, lw=1.4,
            mec="white", mew=0.5,
        )  # fmt: skip
    ax.set_xscale("log")
    ax.set_yscale("log")
    ax.invert_xaxis()
    ax.set_xlabel("ELBO per datum below the best point (nats)")
    ax.set_ylabel("variance of the gradient (nats²)")
    legend_beside(ax)
    return framed(ax, f"Gradient noise on the way to the optimum: {group} (± 1 SE)")
