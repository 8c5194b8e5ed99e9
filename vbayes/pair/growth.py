"""How a pair depends on the number of rows that it is called with: minibatches must not change its parameters, and all that grows with them must be scaled."""

from __future__ import annotations

from typing import Any

import pyro
import torch

from ..data.dataset import Dataset
from ..validation import validation
from .explained import FAILURES
from .pair import DATA_PLATE, Pair
from .sites import base, is_point_mass, plates, sites


def looks_rows_up(pair: Pair, data: Dataset, size: int) -> bool:
    """Whether an autoguide's plate gets the row numbers of a minibatch (`create_plates`): it then has parameters for all rows, and uses those of the minibatch."""
    batch = data.batch(pair.model, torch.arange(size, device=data.first.device))
    with pair.look(), torch.no_grad(), validation(False):
        q = pyro.poutine.trace(pair.guide).get_trace(*batch.args)
    frames = [frame for site in sites(q) for frame in plates(site) if frame.name == DATA_PLATE]
    if DATA_PLATE not in q or any(frame.full_size != len(data) for frame in frames):
        return False
    rows: Any = q.nodes[DATA_PLATE]
    # A plate that is told its rows has no size to draw.
    told = rows["fn"].subsample_size is None
    return told and any(isinstance(a, torch.Tensor) and torch.equal(a, rows["value"]) for a in batch.args)


def sized_by_the_batch(pair: Pair, data: Dataset, size: int) -> list[str]:
    """Parameters that would have another shape if the pair first saw a batch of another size."""
    fresh = Pair(pair.model, pair.guide)
    try:
        fresh.initialise(data.batch(pair.model, torch.arange(size, device=data.first.device)))
    except FAILURES:
        return []  # it can't take such a batch, and training will say so
    shapes = {name: value.shape for name, value in pair.parameters.items()}
    return [name for name, value in fresh.parameters.items() if shapes.get(name, value.shape) != value.shape]


def rows_outside_the_plate(pair: Pair, data: Dataset, size: int) -> list[str]:
    """Sites that grow with the minibatch, although neither the plate "data" nor another plate or handler scales them up."""
    shapes: list[dict[str, tuple[int, ...]]] = []
    for rows in (size, size - 1):
        batch = data.batch(pair.model, torch.arange(rows, device=data.first.device))
        try:
            with pair.look(), torch.no_grad(), validation(False):
                every = [site for trace in pair.run(batch) for site in sites(trace) if not _without_density(site)]
        except FAILURES:
            return []  # it can't take such a batch, and training will say so
        plain = [s for s in every if isinstance(s["scale"], (int, float)) and s["scale"] == 1.0]
        bare = [s for s in plain if all(frame.name != DATA_PLATE for frame in s["cond_indep_stack"])]
        shapes.append({s["name"]: tuple(s["value"].shape) for s in bare if isinstance(s["value"], torch.Tensor)})
    larger, smaller = shapes
    return [
        name
        for name, shape in larger.items()
        if name not in smaller or (size, size - 1) in zip(shape, smaller[name], strict=False)
    ]


def _without_density(site: Any) -> bool:
    """Whether its log-density is 0 for any number of rows: it is masked out, or a point mass at a computed value."""
    return site["mask"] is False or (is_point_mass(site["fn"]) and not base(site["fn"]).log_density.any())
