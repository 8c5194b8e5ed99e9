"""Names and labels of the dimensions of exported variables, and constant data."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from .. import rng
from ..data.columns_for import ROWS
from ..data.dataset import Batch, Dataset
from ..errors import BadInput
from ..pair.indexing import picked
from ..pair.missing import counted
from ..pair.pair import Pair
from ..pair.sites import Layout, observed, plates, recorded, summed_out
from ..summaries.card import first_few
from .labels import ROW, constant, dims_of, labels_of

PROBABILITY = "_probability"  # suffix for the probabilities of a marginalised site's values, given the draw of the rest


class Names:
    """Names and labels, found by running a pair.

    Args:
        pair: The pair, which is copied.
        batch: Its arguments, the rows of `data`.
        data: The data, with names and labels of its columns.
    """

    def __init__(self, pair: Pair, batch: Batch, data: Dataset) -> None:
        pair = pair.copy()
        with pair.scope(), rng.seeded(0), torch.no_grad():
            self._q, self._p = pair.run(Batch(batch.args))
        self._pair, self._data, self._args, self._asked = pair, data, batch.args, data.asked(pair.model)
        self._sizes = {frame.name: int(frame.size) for site in recorded(self._p) for frame in plates(site)}
        self._rows = {frame.name for site in observed(self._p) for frame in plates(site) if frame.size == len(data)}

    def dims(self, given: Mapping[str, Sequence[str]]) -> dict[str, list[str]]:
        """Variable → names of its dimensions: plates, then those of a column, otherwise `site_dim_i`.

        Args:
            given: For some variables, all of their names, or those not given by plates.

        Raises:
            BadInput: A variable is unknown, or has a different number of dimensions.
        """
        found = {name: [frame.name for frame in Layout(self._q, self._p).local] for name in ("log_weight", "pareto_k")}
        for name in summed_out(self._q, self._p):
            frames = plates(self._p.nodes[name])
            rank = max((-frame.dim for frame in frames), default=0)
            dims = [f"{name}{PROBABILITY}_dim_{i}" for i in range(rank)]
            for frame in frames:
                dims[frame.dim] = frame.name
            found[name + PROBABILITY] = [*dims, f"{name}_value"]
        for site in recorded(self._p):
            found[site["name"]] = dims_of(site, self._data.dims.get(site["name"], ()))
        for name, own in given.items():
            if name not in found:
                raise BadInput(f"dims names {name!r}, which is not a variable. Wanted some of: {first_few(found, 20)}.")
            free = [place for place, dim in enumerate(found[name]) if dim.startswith(f"{name}_dim_")]
            places = range(len(found[name])) if len(own) == len(found[name]) else free
            if len(own) != len(places):
                raise BadInput(
                    f"dims[{name!r}] is {list(own)}. Wanted: {len(found[name])} names to replace {found[name]}, or {len(free)} names for the dimensions without a plate."
                )
            for place, dim in zip(places, own, strict=True):
                found[name][place] = dim
        return found

    def labels(self, given: Mapping[str, Sequence[Any]], dims: Mapping[str, Sequence[str]]) -> dict[str, Any]:
        """Dimension → its labels.

        Args:
            given: Labels that take precedence over those of the data.
            dims: Variable → names of its dimensions.

        Raises:
            BadInput: There is no such dimension.
        """
        known = dict.fromkeys(dim for own in dims.values() for dim in own)
        if unknown := [name for name in given if name not in known]:
            raise BadInput(
                f"coords names {unknown[0]!r}, which is not a dimension. Wanted some of: {first_few(known, 20)}. Name dimensions with dims=."
            )
        unsaid = self._sizes.keys() - self._rows - given.keys()  # plates of groups, whose labels come from the data
        by = picked(self._pair, self._args, self._asked) if self._data.labels and unsaid else {}
        return {**labels_of(self._sizes, self._rows, self._data, self._asked, by), **given}

    def constant(self, labels: Mapping[str, Sequence[Any]]) -> Any:
        """An `xarray.Dataset` of the columns that the pair was called with, except observed ones.

        Args:
            labels: Dimension → its labels.
        """
        seen = [site["value"] for site in observed(self._p)]
        columns = {
            name: value
            for name, value in zip(self._asked, self._args, strict=True)
            if name != ROWS and not any(_same(value, other) for other in seen)
        }
        row = next(iter(self._rows)) if len(self._rows) == 1 else ROW
        return constant(columns, row, labels.get(row, range(len(self._data))), self._data.dims)

    def counted(self) -> dict[str, np.ndarray]:
        """Observed site → where it was observed, for sites that are partly masked."""
        each = {site["name"]: counted(site) for site in observed(self._p)}
        return {name: own.cpu().numpy() for name, own in each.items() if own is not None and not bool(own.all())}


def _same(column: Tensor, seen: Any) -> bool:
    """Whether a site's observations are a column, except for its gaps, which are masked."""
    if not isinstance(seen, Tensor) or column.shape != seen.shape:
        return False
    return bool(((column == seen) | column.isnan()).all())
