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

    drawing = pyplot.figure(figsize=(13, 8.2), layout="constrained")
    # Without a chart the codes have the whole of the right side.
    corner = "chart" if "chart" in panels else "codes"
    places = drawing.subplot_mosaic(
        [["rebuilt", "rebuilt", "codes"], ["drawn", "walks", corner]], height_ratios=[1, 1.4]
    )
    for name, title in TITLES.items():
        if name not in panels:
            continue
        pictures, columns = panels[name]
        images(pictures, places[name], columns=columns)
        places[name].set_title(title.format(*axes), loc="left", fontsize=11)
    codes(table, places["codes"])
    return drawing
