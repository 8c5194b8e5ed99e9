"""Small pictures stored as text in a table, and drawn in a row."""

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
    """(8, 8) array from the text that `as_text` made."""
    return np.array([float(value) for value in text.split()]).reshape(SHAPE)


def draw_row(
    texts: Iterable[str], axes: Sequence[Axes], *, label: str, signed: bool = False, titles: Sequence[str] = ()
) -> None:
    """Draws one picture on each of several axes.

    Args:
        texts: From `as_text`.
        axes: At least as many as pictures; the remaining ones stay blank.
        label: Label to the left of the first.
        signed: Whether values have a sign, shown as colour with 0 white, each picture with its own range; otherwise 0 is white and 1 black.
        titles: Titles above the pictures.
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
