"""Predictions with their intervals."""

from __future__ import annotations

import pandas as pd
from matplotlib.axes import Axes

from ..arguments.takes import takes
from ..arguments.tensor import Table
from .frame import framed, legend_beside

FEW = 40  # maximum number of rows with legible labels


@takes(table=Table(("mean", "sd")))
def prediction(table: pd.DataFrame, ax: Axes, name: str = "prediction") -> Axes:
    """Plots means with intervals: against the only column of real numbers, if there is exactly one, no column of names, and no duplicate values; otherwise row by row, with labels if there are few rows.

    Args:
        table: `Prediction.to_dataframe()`.
        ax: Axes to draw on.
        name: Name of the predicted site.
    """
    place = list(table.columns).index("mean")
    low, high = table.columns[place + 2 : place + 4]
    real = [column for column in table.columns[:place] if table[column].dtype.kind == "f"]
    words = [column for column in table.columns[:place] if table[column].dtype.kind not in "iufb"]
    if len(real) == 1 and not words and table[real[0]].is_unique:
        table = table.sort_values(real[0])
        ax.fill_between(
            table[real[0]], table[low], table[high], color="#56B4E9", alpha=0.35, lw=0, label=f"{low} to {high}"
        )
        ax.plot(table[real[0]], table["mean"], color="#0072B2", lw=2, label="mean")
        ax.set_xlabel(str(real[0]))
    else:
        rows = range(len(table))
        ax.vlines(rows, table[low], table[high], color="#56B4E9", lw=2, label=f"{low} to {high}")
        ax.plot(rows, table["mean"], "o", color="#0072B2", ms=4, label="mean")
        if words and len(table) <= FEW:
            ax.set_xticks(rows, table[words[-1]], rotation=45, ha="right")
        else:
            ax.set_xlabel("row")
    ax.set_ylabel(name)
    legend_beside(ax)
    return framed(ax, f"Predictions of {name}")
