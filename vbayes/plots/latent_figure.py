"""A latent space in five pictures."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from ..arguments.choice import TEXT
from ..arguments.kind import Anything, Mapped, Several
from ..arguments.takes import takes
from ..arguments.tensor import Table
from .codes import codes
from .images import images

WIDTH, CODES, TITLE = 11.0, 4.4, 0.3  # inches
TITLES = {
    "rebuilt": "Data, and rebuilt from the mean of q(z|x)",
    "drawn": "Drawn from the prior: means of p(x|z)",
    "walks": "Straight lines between two data",
    "chart": "What {} (across) and {} (up) generate",
}


@takes(table=Table(()), panels=Mapped(Anything()), axes=Several(TEXT, 2, 2))
def latent_figure(panels: Mapping[str, tuple[np.ndarray, int]], table: pd.DataFrame, axes: tuple[str, str]) -> Figure:
    """Reconstructions, draws from the prior, walks between two data, the chart, and the codes by class.

    Args:
        panels: Of "rebuilt", "drawn", "walks" and "chart": pictures (n, height, width), and how many stand in a row. A chart may be missing.
        table: `LatentSpace.codes`.
        axes: The two dimensions of the chart.
    """
    from matplotlib import pyplot

    shapes = {name: _shape(*panel) for name, panel in panels.items()}
    lower = "chart" if "chart" in panels else "codes"
    # Heights that fill the width: both rows have two places beside each other, and the one to the upper left two panels of the same width.
    stack = shapes["rebuilt"] + shapes["walks"]
    upper = (WIDTH - (CODES if lower == "chart" else 0.0)) * stack + 2 * TITLE
    below = WIDTH / (1 / shapes["drawn"] + 1 / shapes.get("chart", shapes["drawn"])) + TITLE
    drawing = pyplot.figure(figsize=(WIDTH, upper + below), layout="constrained")
    rows = drawing.add_gridspec(2, 1, height_ratios=[upper, below])
    above = rows[0].subgridspec(1, 2, width_ratios=[WIDTH - CODES, CODES]) if lower == "chart" else [rows[0]]
    left = above[0].subgridspec(2, 1, height_ratios=[shapes["rebuilt"], shapes["walks"]])
    under = rows[1].subgridspec(1, 2, width_ratios=[1 / shapes["drawn"], 1 / shapes.get("chart", shapes["drawn"])])
    places = {"rebuilt": left[0], "walks": left[1], "drawn": under[0], lower: under[1]}
    axes_of = {
        name: drawing.add_subplot(place)
        for name, place in (places | {"codes": above[1] if lower == "chart" else under[1]}).items()
    }
    for name, (pictures, columns) in panels.items():
        images(pictures, axes_of[name], columns=columns)
        axes_of[name].set_title(TITLES[name].format(*axes), loc="left", fontsize=11)
    codes(table, axes_of["codes"])
    return drawing


def _shape(pictures: np.ndarray, columns: int) -> float:
    """Height over width of pictures in rows."""
    count, height, width = pictures.shape
    return float(-(-count // columns) * height / (columns * width))
