"""The whole of a comparison in one figure."""

from __future__ import annotations

import pandas as pd
from matplotlib import pyplot
from matplotlib.figure import Figure

from .gradient_variance import gradient_variance
from .variance_time import variance_time


def comparison_figure(table: pd.DataFrame) -> Figure:
    """Variance by group of parameters along the training, and variance × time at its end.

    Args:
        table: `Comparison.to_dataframe()`.
    """
    groups = [group for group in dict.fromkeys(table.group) if group != "all"][:4] or ["all"]
    whole = "all" if "all" in set(table.group) else groups[0]
    last = table["at"].iloc[-1]
    width = 2.5 * len(groups) + 3.6
    figure, axes = pyplot.subplots(
        1, len(groups) + 1, figsize=(width, 3.5), layout="constrained", width_ratios=[2.5] * len(groups) + [3.4]
    )
    for i, (ax, group) in enumerate(zip(axes, groups, strict=False)):
        gradient_variance(table, ax, group=group)
        ax.sharey(axes[0])
        if i:
            ax.tick_params(labelleft=False)
    axes[0].set_ylabel("variance of the gradient (nats²)")
    variance_time(table, axes[-1], at=last, group=whole)
    handles, labels = axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower left", ncols=len(labels), frameon=False, fontsize=9)
    figure.suptitle("Gradient noise of ELBO estimators along the training (± 1 SE)", x=0.01, ha="left", fontsize=12)
    return figure
