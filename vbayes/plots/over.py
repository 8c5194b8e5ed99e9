"""How gradients change with any setting."""

from __future__ import annotations

import pandas as pd
from matplotlib.axes import Axes

from ..arguments.takes import takes
from ..arguments.tensor import Table
from ..summaries.bias_alarms import at_one_point
from .against_particles import COLUMN, WORDS
from .frame import framed, legend_beside
from .palette import style


@takes(table=Table(("estimator", "at", "group")), y=COLUMN)
def over(table: pd.DataFrame, ax: Axes, *, y: str = "variance", at: str | None = None, group: str = "all") -> Axes:
    """Plots a column against the first one, one line per estimator, on logarithmic scales.

    Args:
        table: `ComparisonOver.to_dataframe()`.
        ax: Axes to draw on.
        y: "snr", "dsnr", "variance" or "variance_time".
        at: Point of training; the last one for each value if None.
        group: Name of a group of parameters.
    """
    name = table.columns[0]
    rows = at_one_point(table, at)
    rows = rows[rows.group == group]
    names = list(dict.fromkeys(rows.estimator))
    for estimator in names:
        label, colour, marker = style(estimator, names)
        own = rows[rows.estimator == estimator]
        ax.errorbar(
            own[name], own[y], yerr=own[f"{y}_se"], color=colour, marker=marker, label=label, ms=6, lw=1.4, mec="white",
            mew=0.5,
        )  # fmt: skip
    values = list(dict.fromkeys(rows[name]))
    ax.set_xscale("log")
    ax.set_yscale("log")
    ax.set_xticks(values, [str(value) for value in values])
    ax.minorticks_off()
    ax.set_xlabel(str(name).replace("_", " "))
    ax.set_ylabel(WORDS[y])
    legend_beside(ax)
    return framed(ax, f"{group} at the {at or 'end'} (± 1 SE)")
