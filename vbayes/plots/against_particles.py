"""How gradients change with the number of particles."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from .palette import GRID, style

WORDS = {
    "snr": "signal-to-noise ratio",
    "dsnr": "directional signal-to-noise ratio",
    "variance": "variance of the gradient (nats²)",
    "variance_time": "variance × ms (nats² ms)",
}


def against_particles(
    table: pd.DataFrame, ax: Axes, *, y: str = "snr", at: str | None = None, group: str = "all"
) -> Axes:
    """A column against K on logarithmic scales, one line an estimator, with the slope of a straight line through it.

    Args:
        table: `Comparison.to_dataframe()` of a comparison with `particles=`.
        ax: Where to draw.
        y: "snr", "dsnr", "variance" or "variance_time".
        at: Point of training; the last if None.
        group: Of parameters.
    """
    at = at or table["at"].iloc[-1]
    rows = table[(table["at"] == at) & (table.group == group) & (table[y] > 0)]
    kinds = rows.estimator.str.partition("(")[0]
    for kind in dict.fromkeys(kinds):
        own = rows[kinds == kind].sort_values("num_particles")
        label, colour, marker = style(kind, list(kinds))
        label = label.partition(" (")[0]
        if len(own) > 2:
            x = np.log(own.num_particles)
            weight = (own[y] / own[f"{y}_se"].clip(lower=1e-3 * own[y])).to_numpy()
            label += f", slope {np.polyfit(x, np.log(own[y]), 1, w=weight)[0]:+.2f}"
        ax.errorbar(
            own.num_particles, own[y], yerr=own[f"{y}_se"], color=colour, marker=marker, label=label, ms=6, lw=1.4,
            mec="white", mew=0.5,
        )  # fmt: skip
    counts = sorted(set(rows.num_particles))
    ax.set_xscale("log", base=2)
    ax.set_yscale("log")
    ax.set_xticks(counts, [str(k) for k in counts])
    ax.minorticks_off()
    ax.set_xlabel("particles K")
    ax.set_ylabel(WORDS[y])
    ax.set_title(f"{group} at the {at} (± 1 SE)", loc="left", fontsize=11)
    ax.legend(frameon=False, fontsize=9, loc="upper left", bbox_to_anchor=(1.0, 1.0))
    ax.grid(**GRID)
    ax.spines[["top", "right"]].set_visible(False)
    return ax
