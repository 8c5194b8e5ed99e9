"""Converts tables of other libraries to columns by name."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any

import numpy as np

from ..errors import BadData
from .labels import coded
from .stored import stored_or_whole


def columns_of_table(data: Any) -> tuple[dict[str, Any], dict[str, tuple[str, ...]]] | None:
    """The columns of a table of pandas, polars, Arrow or xarray, or of a structured array; labels of rows are ignored.

    Returns:
        Name → values, and name → names of its dimensions after the rows, if any; None for anything else.

    Raises:
        BadData: Two columns have the same name, or variables of xarray have different rows.
    """
    if isinstance(data, np.ndarray) and data.dtype.names:
        return {name: np.ascontiguousarray(data[name]) for name in data.dtype.names}, {}
    if hasattr(data, "data_vars") and hasattr(data, "coords"):
        return _of_xarray(data)
    if hasattr(data, "column_names") and hasattr(data, "to_pandas"):
        data = data.to_pandas()  # Arrow's
    if not (hasattr(data, "columns") and hasattr(data, "to_numpy")) or isinstance(data, Mapping):
        return None
    names = [str(name) for name in data.columns]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise BadData(
            f"The table has {len(names)} columns, of which several are named {twice[0]!r}. Wanted: unique names. Fix: table.columns = [...]."
        )
    return {name: data[key] for name, key in zip(names, data.columns, strict=True)}, {}


def matrix_of(values: Any) -> Any:
    """Numbers (N, k) from a table that is a single column; anything else unchanged.

    Raises:
        BadData: Some of its columns are not numbers.
    """
    if not (hasattr(values, "columns") and hasattr(values, "to_numpy")):
        return values
    columns, _ = columns_of_table(values) or ({}, {})
    numbers = []
    for name, each in columns.items():
        found, names = coded(name, each)
        if names is not None:
            raise BadData(
                f"Column {name!r} of a table that is passed as one argument of a model holds names. Wanted: numbers. Fix: pd.get_dummies(table), or a separate argument for it."
            )
        numbers.append(np.asarray(found, dtype=float))
    return np.stack(numbers, axis=1) if numbers else values


def _of_xarray(data: Any) -> tuple[dict[str, Any], dict[str, tuple[str, ...]]]:
    rows: Hashable = next((dim for each in data.data_vars.values() for dim in each.dims), None)
    beside = {name: each for name, each in data.coords.items() if rows in each.dims and name not in data.dims}
    found, dims = {}, {}
    for name, each in {**data.data_vars, **beside}.items():
        if rows not in each.dims:
            raise BadData(
                f"Variable {name!r} has dimensions {tuple(each.dims)}, but the rows of the others are along {rows!r}. Wanted: the same rows in each. "
                f"Fix: data.drop_vars({name!r}), or data.transpose({rows!r}, ...) with the variable that has the rows first."
            )
        each = each.transpose(rows, ...)
        found[str(name)], dims[str(name)] = stored_or_whole(each), tuple(str(dim) for dim in each.dims[1:])
    return found, {name: own for name, own in dims.items() if own}
