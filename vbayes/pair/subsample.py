"""Plates that show only a part of their rows: subsampled by the model at each run, or passed in."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pyro
import torch

from ..data.dataset import Batch
from ..errors import Unsuitable
from ..validation import validation
from .pair import DATA_PLATE, Pair
from .sites import Layout, sites


@dataclass(frozen=True)
class Subsample:
    """The parts of their plates that two traces show, if not all rows.

    Attributes:
        plates: Plate → rows that it shows, rows that it has.
        anew: Plates whose rows are drawn in each run, so that another run shows others.
        alike: Whether all sites have the same factor N/M, so that each row's log-density without it is known.
    """

    plates: dict[str, tuple[int, int]]
    anew: tuple[str, ...]
    alike: bool

    def __str__(self) -> str:
        name = (*self.anew, *self.plates)[0]
        shown, total = self.plates[name]
        how = "subsamples {} of {} rows at each run" if self.anew else "shows {} of its {} rows"
        return f"Plate {name!r} " + how.format(shown, total)


def subsample(q: pyro.poutine.Trace, p: pyro.poutine.Trace, total: int | None = None) -> Subsample | None:
    """The plates of which a guide's and a model's trace show only a part; None if they show all rows.

    Args:
        q, p: The traces. Sequential plates (loops) count like vectorised ones.
        total: N, if a plate "data" of M rows was scaled by N/M; see `Pair.scaled`.
    """
    plates: dict[str, tuple[int, int]] = {}
    for site in sites(q) + sites(p):
        for frame in site["cond_indep_stack"]:
            if frame.full_size not in (None, frame.size):
                plates[frame.name] = (int(frame.size), int(frame.full_size))
            elif frame.name == DATA_PLATE and total is not None and frame.size < total:
                plates[frame.name] = (int(frame.size), total)
    if not plates:
        return None
    drawn: list[Any] = [
        node for trace in (q, p) for node in trace.nodes.values() if type(node.get("fn")).__name__ == "_Subsample"
    ]
    anew = dict.fromkeys(n["name"] for n in drawn if n["fn"].subsample_size is not None and n["name"] in plates)
    return Subsample(plates, tuple(anew), Layout(q, p).scale != 1.0)


def seen_of(pair: Pair, batch: Batch) -> Subsample | None:
    """Runs a pair once, and returns its `subsample`."""
    with pair.look(), torch.no_grad(), validation(False):
        return subsample(*pair.run(batch), batch.total)


def refuse(pair: Pair, part: Subsample, why: str) -> Unsuitable:
    """The error for functions that need all rows."""
    return Unsuitable(
        f"{part} in pair {pair.name!r}, so {why}. Wanted: all of them. Let the model take its plate's size from its data, and leave "
        "minibatches to vb.fit(batch_size=...)."
    )
