"""Draws as xarray arrays, with the names of plates and the labels of groups."""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from torch import Tensor

from ..data.columns_for import ROWS
from ..data.dataset import Dataset
from ..export.labels import ROW, constant, labels_of
from ..pair.indexing import Picked
from .new_groups import Groups
from .new_rows import NewRows


@dataclass(frozen=True)
class Labelled:
    """Names and labels for what was predicted.

    Attributes:
        dims: Site → names of its dimensions.
        sizes: Plate → its size.
        rows: The plates whose rows are those of the data.
        asked: Names of the columns that the model is called with.
        picked: What it picks from by these.
        train, new: The data of the fit, and those that it was asked about, with codes alike.
    """

    dims: Mapping[str, Sequence[str]]
    sizes: Mapping[str, int]
    rows: Set[str]
    asked: Sequence[str]
    picked: Picked
    train: Dataset
    new: Dataset

    @cached_property
    def labels(self) -> dict[str, Sequence[Any]]:
        """Plate → its labels: groups that the fit has met, and new ones behind them where the plate has grown."""
        groups = {plate: size for plate, size in self.sizes.items() if plate not in self.rows}
        known = labels_of(groups, self.rows, self.train, self.asked, self.picked)
        return {**known, **labels_of(self.sizes, self.rows, self.new, self.asked, self.picked)}

    def draws(self, values: Mapping[str, Tensor], groups: Groups) -> Any:
        """An `xarray.Dataset` of (S, …). Where new groups have taken the places of others in a plate, it has the groups of the new rows alone."""
        import xarray as xr

        arrays = {name: value.cpu().numpy() for name, value in values.items()}
        dims = {name: ["draw", *(dim + "_plate" * (dim in arrays) for dim in self.dims[name])] for name in arrays}
        labels = dict(self.labels)
        for one in groups.own:
            names = self.new.labels.get(one.name)
            for plate, places in one.places.items():
                codes = sorted(places)
                labels[plate] = [names[code] for code in codes] if names else codes
                chosen = [places[code] for code in codes]
                for name, own in dims.items():
                    if plate in own:
                        arrays[name] = np.take(arrays[name], chosen, own.index(plate))
        coords: dict[str, Any] = {
            dim: range(size) for n in arrays for dim, size in zip(dims[n], arrays[n].shape, strict=True)
        }
        coords |= {dim: list(own) for dim, own in labels.items() if dim in coords}
        said = {f"new_{one.name}": list(one.names) for one in groups.own if one.names}
        return xr.Dataset({name: (dims[name], array) for name, array in arrays.items()}, coords, said)

    def constant(self, rows: NewRows) -> Any:
        """An `xarray.Dataset` of the columns that the model was called with, but those that it observes."""
        row = next(iter(self.rows)) if len(self.rows) == 1 else ROW
        columns = {
            name: value
            for name, value in zip(self.asked, rows.args, strict=True)
            if value is not None and name not in (*rows.observed, ROWS)
        }
        return constant(columns, row, self.labels.get(row, range(rows.count)), self.new.dims)
