"""Codes of data, by class."""

from __future__ import annotations

import pandas as pd
from matplotlib import colormaps
from matplotlib.axes import Axes

from ..arguments.takes import takes
from ..arguments.tensor import Table
from .frame import framed

BINS = 40
SEVERAL = 20  # maximum number of classes distinguished by colours


@takes(table=Table(("label",)))
def codes(table: pd.DataFrame, ax: Axes) -> Axes:
    """Plots a point for each datum in the two dimensions of z that vary most, coloured by its label; a histogram if z has one dimension.

    Args:
        table: `LatentSpace.codes`.
        ax: Axes to draw on.
    """
    across, up = widest(table)
    if across == up:
        return _along(table, ax, across)
    if "label" not in table:
        ax.scatter(table[across], table[up], s=8, color="#0072B2", alpha=0.6)
    elif (classes := sorted(table.label.unique())) and len(classes) <= SEVERAL:
        colours = colormaps["tab10" if len(classes) <= 10 else "tab20"]
        for number, name in enumerate(classes):
            own = table[table.label == name]
            ax.scatter(own[across], own[up], s=8, color=colours(number), label=str(name))
        ax.legend(frameon=False, fontsize=8, markerscale=2, loc="center left", bbox_to_anchor=(1.0, 0.5))
    else:
        shown = ax.scatter(table[across], table[up], s=8, c=table.label, cmap="viridis")
        ax.figure.colorbar(shown, ax=ax)
    ax.set(xlabel=across, ylabel=up)
    return framed(ax, "Data at the means of q(z|x)")


def _along(table: pd.DataFrame, ax: Axes, name: str) -> Axes:
    """A histogram, divided by label if there are few of them."""
    classes = sorted(table.label.unique()) if "label" in table and table.label.nunique() <= SEVERAL else []
    if classes:
        colours = colormaps["tab10" if len(classes) <= 10 else "tab20"]
        own = [table[name][table.label == label] for label in classes]
        ax.hist(
            own, bins=BINS, stacked=True, color=[colours(n) for n in range(len(classes))], label=list(map(str, classes))
        )
        ax.legend(frameon=False, fontsize=8, loc="center left", bbox_to_anchor=(1.0, 0.5))
    else:
        ax.hist(table[name], bins=BINS, color="#0072B2")
    ax.set(xlabel=name, ylabel="data")
    return framed(ax, "Data at the means of q(z|x)", grid="y")


def widest(table: pd.DataFrame) -> tuple[str, str]:
    """The two columns of codes that vary most, in their order; if there is only one, it is repeated."""
    latents = [name for name in table.columns if name != "label"]
    if len(latents) == 1:
        return latents[0], latents[0]
    across, up = sorted(table[latents].var().nlargest(2).index, key=latents.index)
    return across, up
