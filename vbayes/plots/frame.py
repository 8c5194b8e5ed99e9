"""Frame of a figure: title, grid, legend."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

from matplotlib.axes import Axes

from .palette import GRID


def framed(ax: Axes, title: str, *, grid: Literal["both", "x", "y"] = "both", size: int = 11) -> Axes:
    """Formats axes: a title at the left, a faint grid, and no lines at the top and right.

    Args:
        ax: The axes.
        title: The title.
        grid: Axes with grid lines.
        size: Font size of the title in points.
    """
    ax.set_title(title, loc="left", fontsize=size)
    ax.grid(axis=grid, **GRID)
    ax.spines[["top", "right"]].set_visible(False)
    return ax


def points_across(
    ax: Axes, labels: Sequence[str], values: Sequence[float], errors: Sequence[float], colours: Sequence[str]
) -> None:
    """A point with its error for each label, one below the other. Unlike bars, points are meaningful on a logarithmic scale, which has no zero."""
    for label, value, error, colour in zip(labels, values, errors, colours, strict=True):
        ax.errorbar(value, label, xerr=error, fmt="o", ms=7, color=colour, ecolor="#444444", elinewidth=1.2, capsize=3)
    ax.margins(y=0.5 / max(1, len(labels)))


def legend_beside(ax: Axes, **options: Any) -> None:
    """Places the legend to the right of the axes, where it hides no data."""
    ax.legend(frameon=False, fontsize=9, loc="upper left", bbox_to_anchor=(1.0, 1.0), **options)
