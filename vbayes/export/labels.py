"""Names of dimensions, and the labels along them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Set
from typing import Any

from torch import Tensor

from ..data.dataset import Dataset
from ..pair.indexing import Picked, names_in
from ..pair.sites import kind, plates

ROW = "row"  # the dimension of rows that are in no plate, or in several


def dims_of(site: Any, own: Sequence[str] = ()) -> list[str]:
    """Names of the dimensions of a site's value: its plates, then its event's own, else `site_dim_i`.

    Args:
        site: Of a model's run.
        own: Names of the dimensions of its event; not used where they are not as many.
    """
    name, rank, event = site["name"], site["value"].dim(), site["fn"].event_dim
    dims, frames = [f"{name}_dim_{i}" for i in range(rank)], plates(site)
    if kind(site) == "deterministic":
        event = _event_dim(site["value"], frames, event)
    for frame in frames:
        if frame.dim - event >= -rank:
            dims[frame.dim - event] = frame.name
    if event and len(own) == event:
        dims[-event:] = own
    return dims


def _event_dim(value: Tensor, frames: Sequence[Any], default: int) -> int:
    """Of a `pyro.deterministic`, for which Pyro takes all dimensions for the event's unless it is told: those to the right of where its plates fit in."""
    for event in range(value.dim() if default == value.dim() else 0):
        places = [(frame.dim - event, frame.size) for frame in frames]
        if places and all(-dim <= value.dim() and value.shape[dim] == size for dim, size in places):
            return event
    return default


def labels_of(
    sizes: Mapping[str, int], rows: Set[str], data: Dataset, asked: Sequence[str], picked: Picked
) -> dict[str, list[str]]:
    """Plate → its labels, of those that have any.

    A plate of groups has the labels of the column that the model picks from it by, as in `a[county]`; where no column is known to, of the column of its own name. A plate of
    the rows of the data has the label of each row in a column that the model does not ask for, if they are all different, and if no other plate is as long. A size alone
    says nothing.

    Args:
        sizes: Plate → its size.
        rows: The plates whose rows are those of the data.
        data: With the labels of its columns.
        asked: The columns that the model asks for.
        picked: What it picks from by these.
    """
    found: dict[str, list[str]] = {}
    for name, size in sizes.items():
        if name not in rows:
            if own := _merged(data, sorted(picked.get(name, {name})), size):
                found[name] = own
            continue
        each = {column: _each(data, column) for column in data.labels if column == name or column not in asked}
        different = {column: own for column, own in each.items() if len(own) == size and len(set(own)) == size}
        alone = [other for other in sizes if sizes[other] == size and other in rows] == [name]
        if name in different:
            found[name] = different[name]
        elif len(different) == 1 and alone and name not in data.labels:
            found[name] = next(iter(different.values()))
    return found


def constant(columns: Mapping[str, Tensor], row: str, labels: Sequence[Any], own: Mapping[str, Sequence[str]]) -> Any:
    """An `xarray.Dataset` of columns of data.

    Args:
        columns: Name → (N, …).
        row: The dimension of their rows.
        labels: Of each row.
        own: Column → names of its dimensions after the first.
    """
    import xarray as xr

    found: dict[str, Any] = {}
    for name, value in columns.items():
        called = name + "_column" * (
            name == row
        )  # xarray takes a variable with the name of its dimension for the labels along it
        dims = own.get(name, ())
        dims = dims if len(dims) == value.dim() - 1 else [f"{called}_dim_{i}" for i in range(1, value.dim())]
        found[called] = ([row, *dims], value.cpu().numpy())
    return xr.Dataset(found, {row: labels})


def _merged(data: Dataset, columns: Sequence[str], size: int) -> list[str]:
    """The labels of a plate that some columns pick from: of each row that of the columns whose codes it is in, or else of any; nothing where this leaves a row with none, or with two."""
    columns = [column for column in columns if 0 < len(data.labels.get(column, ())) <= size]
    every = [data.labels[column] for column in columns]
    used = [names_in(data, column) for column in columns] if len(columns) > 1 else []
    found: list[str] = []
    for place in range(size):
        names = {own[place] for own in used if place in own} or {own[place] for own in every if place < len(own)}
        if len(names) != 1:
            return []
        found += names
    return found if len(set(found)) == size else []


def _each(data: Dataset, column: str) -> list[str]:
    """The label of each row."""
    codes, labels = data.tensors[column], data.labels[column]
    if codes.dim() != 1 or codes.is_floating_point():
        return []
    return [labels[code] if 0 <= code < len(labels) else "" for code in codes.tolist()]
