"""Many small images in one."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes

from ..arguments.kind import refuse
from ..arguments.takes import takes
from ..arguments.whole import Whole


@takes(columns=Whole(1))
def images(array: np.ndarray, ax: Axes, *, columns: int = 16) -> Axes:
    """Tiles images row by row.

    Args:
        array: (n, height, width) in [0, 1]; 0 is shown as white.
        ax: Axes to draw on.
        columns: Number of images in a row.
    """
    if len(getattr(array, "shape", ())) != 3:
        refuse("array", array, wanted="an array of shape (n, height, width)", mend="array.reshape(-1, height, width)")
    n, height, width = array.shape
    rows = -(-n // columns)
    padded = np.full((rows * columns, height + 1, width + 1), np.nan)  # a gap of one pixel
    padded[:n, :height, :width] = array
    tiled = padded.reshape(rows, columns, height + 1, width + 1).swapaxes(1, 2)
    ax.imshow(tiled.reshape(rows * (height + 1), columns * (width + 1)), cmap="gray_r", vmin=0, vmax=1)
    ax.set_axis_off()
    return ax
