"""Ranks of the true values among draws of q, over many simulated data sets."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from matplotlib import pyplot
from matplotlib.figure import Figure

from ..arguments.kind import Anything, Mapped
from ..arguments.takes import takes
from ..arguments.tensor import Table
from ..summaries.rank_tests import band, histogram_edges, ordered

MOST = 12  # panels
BINS = 20
USUAL = 20  # approximate number of ranks in a bar if all are equally frequent
COLUMNS = 4
CALM, ALARMED = "#0072B2", "#D55E00"


@takes(table=Table(("parameter",)), ranks=Mapped(Anything()))
def calibration(ranks: Mapping[str, Any], draws: int, table: pd.DataFrame) -> Figure:
    """Plots a histogram of ranks for each parameter, least calibrated first, with the range that contains 99 % of bars if q is calibrated.

    Bars that rise to one side show bias, to both sides a q that is too narrow, and in the middle one that is too wide.

    Args:
        ranks: Parameter → (R,) ranks of the true value among S draws.
        draws: Number of draws, S.
        table: `rank_tests` of them.
    """
    names = ordered(table, list(ranks))[:MOST]
    rows = -(-len(names) // COLUMNS)
    columns = min(COLUMNS, len(names))
    figure, axes = pyplot.subplots(
        rows, columns, figsize=(2.9 * columns, 2.1 * rows + 0.7), layout="constrained", squeeze=False
    )
    rest = table.set_index("parameter")
    for ax, name in zip(axes.flat, names, strict=False):
        own = np.asarray(ranks[name])
        edges = histogram_edges(draws, max(2, min(BINS, draws + 1, len(own) // USUAL)))
        shares = np.diff(edges) / (draws + 1)
        places = (edges + 0.5) / (draws + 1)
        said = str(rest.said[name])
        counts, _ = np.histogram(own, edges)
        ax.stairs(counts, places, fill=True, color=ALARMED if said else CALM)
        low, high = zip(*(band(len(own), float(part)) for part in shares), strict=True)
        for level, dash in ((low, ":"), (high, ":"), (len(own) * shares, "-")):
            ax.stairs(level, places, baseline=None, color="black", lw=1, ls=dash)
        ax.set_title(f"{name}: {said or 'no deviation found'}".replace(", ", ",\n"), loc="left", fontsize=9)
        ax.set(xlim=(0, 1), xticks=[0, 0.5, 1], yticks=[])
        ax.spines[["top", "right", "left"]].set_visible(False)
        ax.tick_params(labelsize=8)
    for ax in axes.flat[len(names) :]:
        ax.set_visible(False)
    axes[-1, 0].set_xlabel("fraction of draws below the true value", fontsize=9)
    left = len(ranks) - len(names)
    more = f", and {left} more parameters" if left else ""
    figure.suptitle(
        f"Ranks of the true values among draws of q, over {len(next(iter(ranks.values())))} data sets (dotted: range of 99 % of bars){more}",
        x=0.01, ha="left", fontsize=11,
    )  # fmt: skip
    return figure
