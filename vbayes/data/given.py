"""Converts any supported form of data to columns."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any

from ..arguments.kind import Optional, refuse
from ..arguments.whole import Whole
from ..errors import BadData
from .column import WANTED
from .columns_of_table import columns_of_table
from .items import columns_of_items, is_stream
from .labels import as_names, coded


def columns_given(data: Any, known: Mapping[str, Sequence[str]], rows: int | None = None) -> dict[str, Any]:
    """The fields of a `Dataset`, from a tensor or array, a tuple or mapping of them, a file of HDF5 or zarr, or a table.

    Args:
        data: The data.
        known: Column → names that already have codes.
        rows: Number of rows, N, of a torch stream of unknown length.

    Raises:
        BadData: `data` is a path, or can't be converted to columns.
        BadInput: `rows` was given for anything but a stream.
    """
    if isinstance(data, (str, os.PathLike)):
        path = os.fspath(data)
        bundled = f", or vb.data.{path}() if that is one of its data sets" if str(path).isidentifier() else ""
        refuse(
            "data",
            data,
            wanted=WANTED,
            mend=f"vb.data.read({path!r}){bundled}",
            error=BadData,
        )
    rows = Optional(Whole())("rows", rows)
    if rows is not None and not is_stream(data):
        refuse(
            "rows",
            rows,
            got="given for data whose number of rows is known",
            wanted="None, except for a torch stream",
            mend="leave rows out",
        )
    if (table := columns_of_table(data)) is not None:
        columns, dims = table
        tensors, labels, unusable = _usable(columns, known)
        return {"tensors": tensors, "labels": labels, "dims": dims, "unusable": unusable}
    named = True
    if (items := columns_of_items(data, rows)) is not None:
        data, named = items
    if hasattr(data, "arrays") and hasattr(data, "groups"):
        data = dict(data.arrays())  # zarr's
    if isinstance(data, Mapping):
        columns = dict(data)
    else:
        several = isinstance(data, (tuple, list)) and data and all(hasattr(d, "shape") for d in data)
        columns, named = {f"x{i}" if i else "x": d for i, d in enumerate(data if several else [data])}, False
    tensors = {name: as_names(name, each, known[name]) if name in known else each for name, each in columns.items()}
    return {"tensors": tensors, "labels": known, "named": named}


def _usable(
    columns: Mapping[str, Any], known: Mapping[str, Sequence[str]]
) -> tuple[dict[str, Any], dict[str, tuple[str, ...]], dict[str, str]]:
    """The usable columns, with numbers or names, the names, and the reasons why the others can't be used, which the model may not need.

    Raises:
        BadData: No column is usable.
    """
    found, labels, not_these = dict[str, Any](), dict[str, tuple[str, ...]](), dict[str, str]()
    for name, values in columns.items():
        own = known.get(name)
        try:
            found[name], names = coded(name, values if own is None else as_names(name, values, own), own)
        except BadData as error:
            if len(columns) == 1:
                raise
            not_these[name] = str(error)
            continue
        if names is not None:
            labels[name] = names
    return found, labels, not_these
