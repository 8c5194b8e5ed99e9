"""The columns of whatever somebody has."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ..arguments.kind import Optional, refuse
from ..arguments.whole import Whole
from ..errors import BadData
from .columns_of_table import columns_of_table
from .items import columns_of_items, is_stream
from .labels import coded


def columns_given(data: Any, known: Mapping[str, Sequence[str]], rows: int | None = None) -> dict[str, Any]:
    """What a `Dataset` is made of, from a tensor or array, a tuple or mapping of them, a file of HDF5 or zarr, or a table.

    Args:
        data: That.
        known: Column → names that have codes already.
        rows: N, of a stream of torch's that doesn't say.

    Raises:
        BadInput: `rows` of anything else.
    """
    rows = Optional(Whole())("rows", rows)
    if rows is not None and not is_stream(data):
        refuse(
            "rows",
            rows,
            got="given with data that have their rows",
            wanted="None, but for a stream of torch's",
            mend="leave rows out",
        )
    if (table := columns_of_table(data)) is not None:
        columns, dims = table
        tensors, labels, unusable = _usable(columns, known)
        return {"tensors": tensors, "labels": labels, "dims": dims, "unusable": unusable}
    if (items := columns_of_items(data, rows)) is not None:
        data, named = items
        if named or isinstance(data, Mapping):
            return {"tensors": data, "labels": known, "named": named}
    if hasattr(data, "arrays") and hasattr(data, "groups"):
        data = dict(data.arrays())  # zarr's
    if isinstance(data, Mapping):
        return {"tensors": dict(data), "labels": known}
    if isinstance(data, (tuple, list)) and data and all(hasattr(d, "shape") for d in data):
        return {"tensors": {f"x{i}" if i else "x": d for i, d in enumerate(data)}, "labels": known, "named": False}
    return {"tensors": {"x": data}, "labels": known, "named": False}


def _usable(
    columns: Mapping[str, Any], known: Mapping[str, Sequence[str]]
) -> tuple[dict[str, Any], dict[str, tuple[str, ...]], dict[str, str]]:
    """The columns that hold numbers or names, the names, and for the others why they are neither: a model need not ask for them.

    Raises:
        BadData: There is no other.
    """
    found, labels, not_these = dict[str, Any](), dict[str, tuple[str, ...]](), dict[str, str]()
    for name, values in columns.items():
        try:
            found[name], names = coded(name, values, known.get(name))
        except BadData as error:
            if len(columns) == 1:
                raise
            not_these[name] = str(error)
            continue
        if names is not None:
            labels[name] = names
    return found, labels, not_these
