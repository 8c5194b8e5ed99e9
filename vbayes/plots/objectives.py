"""How close each objective of a race brings q to the posterior, against time."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib import pyplot
from matplotlib.figure import Figure

from ..arguments.takes import takes
from ..arguments.tensor import Table
from .palette import GRID, style

PANELS = {
    "kl": "KL(q ‖ p) per datum (nats)",
    "forward_kl": "KL(p ‖ q) per datum (nats)",
    "mean_error": "error of the means (posterior sds)",
    "sd_error": "error of the sds (log ratio)",
    "effective": "relative effective number of draws",
}
LEAST = 1e-7  # values below this are rounding


@takes(table=Table(("estimator", "seed", "seconds", *PANELS)))
def objectives(table: pd.DataFrame) -> Figure:
    """Plots each measure against seconds of training, on logarithmic scales: the mean over seeds, and the range from lowest to highest.

    Args:
        table: `Race.to_dataframe()` of a race of objectives.
    """
    shown = [name for name in PANELS if table[name].notna().any()] or ["effective"]
    columns = min(3, len(shown))
    rows = -(-len(shown) // columns)
    figure, axes = pyplot.subplots(
        rows, columns, figsize=(4.2 * columns, 3.4 * rows + 0.6), layout="constrained", squeeze=False
    )
    names = list(dict.fromkeys(table.estimator))
    for ax, measure in zip(axes.flat, shown, strict=False):
        for name in names:
            own = table[(table.estimator == name) & (table.seconds > 0)]
            label, colour, marker = style(name, names)
            looks = [run for _, run in own.groupby("seed")]
            length = min((len(run) for run in looks), default=0)
            if not length:
                continue
            x = np.mean([run.seconds.to_numpy()[:length] for run in looks], axis=0)
            values = np.clip([run[measure].to_numpy(float)[:length] for run in looks], LEAST, None)
            ax.fill_between(x, values.min(0), values.max(0), color=colour, alpha=0.15, lw=0)
            ax.plot(x, values.mean(0), color=colour, marker=marker, ms=4.5, mec="white", mew=0.4, lw=1.5, label=label)
        ax.set_xscale("log")
        if measure != "effective":
            ax.set_yscale("log")
        ax.set_title(PANELS[measure], loc="left", fontsize=10)
        ax.set_xlabel("seconds of training")
        ax.grid(**GRID)
        ax.spines[["top", "right"]].set_visible(False)
    for ax in axes.flat[len(shown) :]:
        ax.set_visible(False)
    handles, labels = axes.flat[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=min(5, len(labels)), frameon=False, fontsize=9)
    return figure
