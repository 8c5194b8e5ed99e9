"""A latent space in five pictures."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from matplotlib.figure import Figure

from .codes import codes
from .images import images

if TYPE_CHECKING:
    from ..latent_space import LatentSpace

SHOWN, WALKS, STEPS, SIDE = 12, 6, 12, 15


def latent_figure(space: LatentSpace, label: str | None, *, seed: int = 0) -> Figure:
    """Reconstructions, draws from the prior, walks between two data, the chart, and the codes by class.

    Args:
        space: Of a pair over pictures.
        label: Column of its data; None for no colours.
        seed: Of the data shown and the draws.
    """
    from matplotlib import pyplot

    generator = torch.Generator().manual_seed(seed)
    order = torch.randperm(len(space.data), generator=generator).to(space.data.first.device)
    some = space.data.rows(order[: max(SHOWN * 2, WALKS * 2)])
    mean, _ = space.encode(some)
    rebuilt, given = space.decode(mean[:SHOWN]), some.first[:SHOWN].to(mean.device)
    walks = torch.cat(
        [space.walk(mean[2 * i], mean[2 * i + 1], steps=STEPS) for i in range(min(WALKS, len(mean) // 2))]
    )
    drawing = pyplot.figure(figsize=(13, 8.2), layout="constrained")
    axes = drawing.subplot_mosaic(
        [["rebuilt", "rebuilt", "codes"], ["drawn", "walks", "chart"]], height_ratios=[1, 1.4]
    )
    table = space.codes(label)
    panels = {
        "rebuilt": (torch.cat([given, rebuilt]), SHOWN, "Data, and rebuilt from the mean of q(z|x)"),
        "drawn": (space.generate(STEPS * STEPS, seed=seed)[1], STEPS, "Drawn from the prior: means of p(x|z)"),
        "walks": (walks, STEPS, "Straight lines between two data"),
    }
    if space.size > 1:
        latents = [name for name in table.columns if name != "label"]
        first, second = sorted(latents.index(name) for name in table[latents].var().nlargest(2).index)
        chart = space.chart(side=SIDE, dimensions=(first, second))
        panels["chart"] = chart, SIDE, f"What z{first} (across) and z{second} (up) generate"
    else:
        axes["chart"].set_axis_off()
    for name, (pictures, columns, title) in panels.items():
        images(space.as_images(pictures), axes[name], columns=columns)
        axes[name].set_title(title, loc="left", fontsize=11)
    codes(table, axes["codes"])
    return drawing
