"""Small pictures in a table: as text, and drawn in a row."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes

SHAPE = (8, 8)


def as_text(picture: Any) -> str:
    """Grey values with three digits, row by row."""
    return " ".join(f"{value:.3f}" for value in np.asarray(picture).reshape(-1))


def as_array(text: str) -> np.ndarray:
    """(8, 8) what `as_text` wrote."""
    return np.array([float(value) for value in text.split()]).reshape(SHAPE)


def draw_row(
    texts: Iterable[str], axes: Sequence[Axes], *, label: str, signed: bool = False, titles: Sequence[str] = ()
) -> None:
    """A picture on each of several axes.

    Args:
        texts: From `as_text`.
        axes: As many, or more: those left over stay blank.
        label: To the left of the first.
        signed: Whether 0 is white and the sign a colour, each picture with a range of its own; otherwise 0 is white and 1 black.
        titles: Above each.
    """
    pictures = [as_array(text) for text in texts]
    for i, ax in enumerate(axes):
        ax.set(xticks=[], yticks=[])
        ax.spines[:].set_visible(False)
        if i < len(pictures):
            most = max(float(np.abs(pictures[i]).max()), 1e-9) if signed else 1.0
            ax.imshow(pictures[i], cmap="RdBu_r" if signed else "gray_r", vmin=-most if signed else 0, vmax=most)
            if i < len(titles):
                ax.set_title(titles[i], fontsize=9, pad=3)
    axes[0].set_ylabel(label, rotation=0, ha="right", va="center", fontsize=9)
