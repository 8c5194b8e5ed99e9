"""Columns of a file that are declared to be categorical."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from ..errors import BadData, near


def categories(table: pd.DataFrame, names: Sequence[str], path: Path) -> pd.DataFrame:
    """A table with some of its columns as categoricals, in numerical order if all of their values are numbers, else sorted.

    Args:
        table: As it was read.
        names: The columns.
        path: The file, for the message.

    Raises:
        BadData: There is no such column.
    """
    require_columns(names, [str(name) for name in table.columns], path)
    return table.assign(**{name: _categorical(table[name]) for name in names})


def require_columns(names: Sequence[str], known: Sequence[str], path: Path) -> None:
    """Raises `BadData` if a column that is to be categorical does not exist."""
    if lacking := [name for name in names if name not in known]:
        raise BadData(
            f"{path} has no column {lacking[0]!r}, which is to be categorical. {near(lacking[0], known)} Wanted: some of its columns: {', '.join(known)}."
        )


def _categorical(values: pd.Series) -> pd.Series:
    if isinstance(values.dtype, pd.CategoricalDtype):
        return values
    if pd.api.types.is_float_dtype(values.dtype) and (values.dropna() % 1 == 0).all():
        values = values.astype("Int64")  # integers with gaps
    found = pd.Series(values.dropna().unique(), dtype=object)
    numbers = pd.to_numeric(found, errors="coerce")
    order = found.map(str) if numbers.isna().any() else numbers
    return values.astype(pd.CategoricalDtype(found.iloc[order.argsort(kind="stable").to_numpy()].to_list()))
