"""A whole comparison in one figure."""

from __future__ import annotations

import pandas as pd
from matplotlib import pyplot
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ..arguments.takes import takes
from ..arguments.tensor import Table
from .gradient_variance import gradient_variance
from .variance_time import variance_time


@takes(table=Table(("estimator", "at", "group", "variance")))
def comparison_figure(table: pd.DataFrame) -> Figure:
    """Plots the variance of each group of parameters along the training, and variance × time at its end.

    Args:
        table: `Comparison.to_dataframe()`.
    """
    groups = [group for group in dict.fromkeys(table.group) if group != "all"][:4] or ["all"]
    whole = "all" if "all" in set(table.group) else groups[0]
    last = table["at"].iloc[-1]
    # One or two columns of groups, and a tall panel for the cost next to them.
    rows = 2 if len(groups) > 2 else 1
    columns = -(-len(groups) // rows)
    figure = pyplot.figure(figsize=(2.6 * columns + 3.8, 2.5 * rows + 1.0), layout="constrained")
    grid = figure.add_gridspec(rows, columns + 1, width_ratios=[2.6] * columns + [3.6])
    axes: list[Axes] = []
    for i, group in enumerate(groups):
        ax = figure.add_subplot(grid[i // columns, i % columns], sharey=axes[0] if axes else None)
        axes.append(gradient_variance(table, ax, group=group))
        if i % columns:
            ax.tick_params(labelleft=False)
        if i // columns < rows - 1:
            ax.tick_params(labelbottom=False)
            ax.set_xlabel("")
    figure.supylabel("variance of the gradient (nats²)", fontsize=10)
    variance_time(table, figure.add_subplot(grid[:, columns]), at=last, group=whole)
    handles, labels = axes[0].get_legend_handles_labels()
    figure.legend(
        handles, labels, loc="outside lower left", ncols=min(len(labels), 2 * columns + 1), frameon=False, fontsize=9
    )
    figure.suptitle("Gradient noise of ELBO estimators along the training (± 1 SE)", x=0.01, ha="left", fontsize=12)
    return figure
