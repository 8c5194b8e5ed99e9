"""Names of dimensions, and the labels along them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Set
from typing import Any

from torch import Tensor

from ..data.dataset import Dataset
from ..pair.indexing import Picked, names_in
from ..pair.sites import kind, plates

ROW = "row"  # name of the dimension of rows that are in no plate, or in several


def dims_of(site: Any, own: Sequence[str] = ()) -> list[str]:
    """Names of the dimensions of a site's value: its plates, then those of its event, otherwise `site_dim_i`.

    Args:
        site: A site of a model's run.
        own: Names of the dimensions of its event; not used if their number is different.
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
    """The event dimensions of a `pyro.deterministic`, for which Pyro assumes that all dimensions belong to the event unless told otherwise: those to the right of its plates."""
    for event in range(value.dim() if default == value.dim() else 0):
        places = [(frame.dim - event, frame.size) for frame in frames]
        if places and all(-dim <= value.dim() and value.shape[dim] == size for dim, size in places):
            return event
    return default


def labels_of(
    sizes: Mapping[str, int], rows: Set[str], data: Dataset, asked: Sequence[str], picked: Picked
) -> dict[str, list[str]]:
    """Plate → its labels, for plates that have any.

    A plate of groups has the labels of the column by which the model indexes it, as in `a[county]`; if there is none, those of the column with its name. A plate of
    the rows of the data has the labels of a column that the model does not take, if they are unique and no other plate has the same length. A size alone
    is not enough.

    Args:
        sizes: Plate → its size.
        rows: The plates whose rows are those of the data.
        data: The data, with the labels of its columns.
        asked: The columns that the model takes.
        picked: What the model indexes by these.
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
        columns: Name → (N, …) values.
        row: Name of the dimension of their rows.
        labels: Labels of the rows.
        own: Column → names of its dimensions after the first.
    """
    import xarray as xr

    found: dict[str, Any] = {}
    for name, value in columns.items():
        called = name + "_column" * (name == row)  # xarray takes a variable with the name of its dimension for labels
        dims = own.get(name, ())
        dims = dims if len(dims) == value.dim() - 1 else [f"{called}_dim_{i}" for i in range(1, value.dim())]
        found[called] = ([row, *dims], value.cpu().numpy())
    return xr.Dataset(found, {row: labels})


def _merged(data: Dataset, columns: Sequence[str], size: int) -> list[str]:
    """The labels of a plate that several columns index: for each row that of the columns with its code, or else of any column; empty if a row then has no label, or two."""
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
    """The labels of the rows."""
    codes, labels = data.tensors[column], data.labels[column]
    if codes.dim() != 1 or codes.is_floating_point():
        return []
    return [labels[code] if 0 <= code < len(labels) else "" for code in codes.tolist()]
