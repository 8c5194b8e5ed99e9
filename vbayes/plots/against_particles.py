"""How gradients change with the number of particles."""

from __future__ import annotations

import re

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from ..arguments.choice import Choice
from ..arguments.takes import takes
from ..arguments.tensor import Table
from .frame import framed, legend_beside
from .palette import style
from .rows import rows_at

WORDS = {
    "snr": "signal-to-noise ratio",
    "dsnr": "directional signal-to-noise ratio",
    "variance": "variance of the gradient (nats²)",
    "variance_time": "variance × ms (nats² ms)",
}
COLUMN = Choice(tuple(WORDS))
DASHES = ("-", "--", ":", "-.")  # line styles for lines that share a colour: one estimator with several settings


def _without_particles(name: str) -> str:
    """An estimator's name without its number of particles, and with its other settings: "iwae(5)" and "iwae(noise='sobol')"."""
    bare = re.sub(r"\(\d+\)$|(?<=\()num_particles=\d+(, )?|, num_particles=\d+", "", name)
    return bare.removesuffix("()")


@takes(table=Table(("estimator", "at", "group")), y=COLUMN)
def against_particles(
    table: pd.DataFrame, ax: Axes, *, y: str = "snr", at: str | None = None, group: str = "all"
) -> Axes:
    """Plots a column against K on logarithmic scales, one line per estimator, with the slope of a fitted straight line.

    Args:
        table: `Comparison.to_dataframe()` of a comparison with `particles=`.
        ax: Axes to draw on.
        y: "snr", "dsnr", "variance" or "variance_time".
        at: Point of training; the last one if None.
        group: Name of a group of parameters.
    """
    at, rows = rows_at(table, at, group)
    rows = rows[rows[y] > 0]
    kinds = rows.estimator.map(_without_particles)
    lines = list(dict.fromkeys(kinds))
    for number, kind in enumerate(lines):
        own = rows[kinds == kind].sort_values("num_particles")
        label, colour, marker = style(kind, lines)
        label = label.replace(" (K = 2)", "")
        relatives = [line.partition("(")[0] for line in lines[:number]].count(kind.partition("(")[0])
        if len(own) > 2:
            x = np.log(own.num_particles)
            weight = (own[y] / own[f"{y}_se"].clip(lower=1e-3 * own[y])).to_numpy()
            label += f", slope {np.polyfit(x, np.log(own[y]), 1, w=weight)[0]:+.2f}"
        ax.errorbar(
            own.num_particles, own[y], yerr=own[f"{y}_se"], color=colour, marker=marker, label=label, ms=6, lw=1.4,
            mec="white", mew=0.5, ls=DASHES[relatives % len(DASHES)],
        )  # fmt: skip
    counts = sorted(set(rows.num_particles))
    ax.set_xscale("log", base=2)
    ax.set_yscale("log")
    ax.set_xticks(counts, [str(k) for k in counts])
    ax.minorticks_off()
    ax.set_xlabel("particles K")
    ax.set_ylabel(WORDS[y])
    legend_beside(ax)
    return framed(ax, f"{group} at the {at} (± 1 SE)")
