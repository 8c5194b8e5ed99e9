"""What is around a figure's data: title, grid, legend."""

from __future__ import annotations

from typing import Any, Literal

from matplotlib.axes import Axes

from .palette import GRID


def framed(ax: Axes, title: str, *, grid: Literal["both", "x", "y"] = "both", size: int = 11) -> Axes:
    """A title to the left, a faint grid, and no lines to the top and right.

    Args:
        ax: What is framed.
        title: In a sentence.
        grid: Along which axes there are grid lines.
        size: Of the title, in points.
    """
    ax.set_title(title, loc="left", fontsize=size)
    ax.grid(axis=grid, **GRID)
    ax.spines[["top", "right"]].set_visible(False)
    return ax


def legend_beside(ax: Axes, **options: Any) -> None:
    """To the right of the data, where it hides none."""
    ax.legend(frameon=False, fontsize=9, loc="upper left", bbox_to_anchor=(1.0, 1.0), **options)
