"""Noise of the minibatch and noise of the draws."""

from __future__ import annotations

import pandas as pd
from matplotlib.axes import Axes

from ..arguments.takes import takes
from ..arguments.tensor import Table
from .frame import framed


@takes(table=Table(("batch_size", "particles", "minibatch", "particle", "total", "total_se", "predicted")))
def noise_split(table: pd.DataFrame, ax: Axes) -> Axes:
    """Plots both parts of a gradient's variance, stacked, and the prediction of a fit to the other bars.

    Args:
        table: `NoiseSplit.to_dataframe()`.
        ax: Axes to draw on.
    """
    labels = [f"M = {m:.0f}\nL = {n:.0f}" for m, n in zip(table.batch_size, table.particles, strict=True)]
    ax.bar(labels, table.minibatch.clip(lower=0), color="#0072B2", width=0.6, label="minibatch")
    ax.bar(
        labels,
        table.particle,
        bottom=table.minibatch.clip(lower=0),
        color="#E69F00",
        width=0.6,
        label="draws of the latents",
    )
    ax.errorbar(labels, table.total, yerr=table.total_se, fmt="none", ecolor="#444444", capsize=3)
    ax.plot(labels, table.predicted, "_", color="black", ms=24, label="predicted from the others")
    ax.set_ylabel("variance of the gradient (nats²)")
    ax.set_axisbelow(True)
    ax.legend(frameon=False)
    return framed(ax, "Where the noise of a gradient comes from (± 1 SE)", grid="y")
