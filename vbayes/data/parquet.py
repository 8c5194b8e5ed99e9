"""Reads Parquet files, at once or, if they are large, during training."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from ..errors import BadData
from .categories import categories, require_columns
from .stored import WHOLE, Numbers, Stored

Columns = Mapping[str, str | Sequence[str]]
NAMES = 10**6  # maximum number of names in a column: with more, practically each row has its own


def read_parquet(path: Path, columns: Columns | None, categorical: Sequence[str] = ()) -> tuple[Any, dict[str, str]]:
    """The columns of a file, and why others can be none.

    Args:
        path: The file.
        columns: Argument of the model → a column of the file, or several as a matrix; None: each column of numbers or names by its own name.
        categorical: Columns of the file whose integers are names.
    """
    import pyarrow.parquet as pq

    file = pq.ParquetFile(path)
    schema = {field.name: field.type for field in file.schema_arrow}
    wanted = columns or {name: name for name in schema}
    names = {name: [each] if isinstance(each, str) else list(each) for name, each in wanted.items()}
    if lacking := sorted({each for own in names.values() for each in own} - schema.keys()):
        raise BadData(
            f"{path} has no column {lacking[0]!r}. Its columns: {', '.join(schema)}. Wanted: names of existing columns in columns=."
        )
    require_columns(categorical, list(schema), path)
    groups = [file.metadata.row_group(number) for number in range(file.num_row_groups)]
    if sum(group.total_byte_size for group in groups) <= WHOLE or len(groups) < 2:
        table = file.read(columns=sorted({each for own in names.values() for each in own})).to_pandas()
        table = categories(table, [name for name in categorical if name in table], path)
        if columns is None:
            return table, {}
        return {name: table[own[0] if isinstance(wanted[name], str) else own] for name, own in names.items()}, {}
    starts = np.concatenate([[0], np.cumsum([group.num_rows for group in groups])])
    found, refused = dict[str, Any](), dict[str, str]()
    for name, own in names.items():
        kinds, told = {schema[each] for each in own}, ""
        if isinstance(wanted[name], str) and (_is_name(schema[own[0]]) or own[0] in categorical):
            if (names_of_rows := _names(file, own[0])) is not None:
                found[name] = names_of_rows
                continue
            told = f", more than {NAMES} distinct ones"
        if not all(_is_number(kind) for kind in kinds):
            refused[name] = (
                f"Column {name!r} of {path} holds {' and '.join(map(str, kinds))}{told}, and the file is larger than {WHOLE >> 20} MiB, so it is not read at once. Wanted: numbers, or names, each "
                f"of which occurs in many rows. Fix: write numbers to the file, table[{own[0]!r}].cat.codes."
            )
            continue
        whole = all(str(kind).startswith(("int", "uint")) for kind in kinds) and not _gaps(groups, own)
        truth = all(str(kind) == "bool" for kind in kinds) and not _gaps(groups, own)
        shape = (int(starts[-1]),) if isinstance(wanted[name], str) else (int(starts[-1]), len(own))
        dtype = torch.int64 if whole else torch.bool if truth else torch.float32
        found[name] = Stored(_Groups(path, own, starts).read, shape, dtype, groups[0].num_rows)
    return found, refused


class _Groups:
    """Reads rows of some columns by row groups of the file; the last group is cached, as a window may end within it."""

    def __init__(self, path: Path, names: Sequence[str], starts: Numbers) -> None:
        import pyarrow.parquet as pq

        self._file, self._names, self._starts = pq.ParquetFile(path), list(names), starts
        self._held: tuple[int, Any] = -1, None

    def read(self, start: int, out: Numbers) -> None:
        done = 0
        while done < len(out):
            group = int(np.searchsorted(self._starts, start + done, "right")) - 1
            if self._held[0] != group:
                self._held = -1, None
                self._held = group, self._file.read_row_group(group, columns=self._names, use_threads=False)
            first = start + done - int(self._starts[group])
            some = self._held[1].slice(first, len(out) - done)
            rows = out[done : done + len(some)]
            for place, name in enumerate(self._names):
                numbers = some.column(name).to_numpy()
                np.copyto(rows if rows.ndim == 1 else rows[:, place], numbers, casting="unsafe")
            done += len(some)


def _names(file: Any, name: str) -> pd.Series | None:
    """The names in a column, read by row groups of the file: sorted, or in the order of a categorical; None if there are more than `NAMES`."""
    places, parts, ordered = dict[Any, int](), [], False
    for number in range(file.num_row_groups):
        for chunk in file.read_row_group(number, columns=[name]).column(0).chunks:
            ordered = hasattr(chunk, "dictionary")
            each = chunk if ordered else chunk.dictionary_encode()
            known = [places.setdefault(one, len(places)) for one in each.dictionary.to_pylist()]
            if len(places) > NAMES:
                return None
            codes = each.indices.cast("int64").fill_null(-1).to_numpy()
            parts.append(np.array([*known, -1], dtype=np.int32)[codes])
    found = pd.Categorical.from_codes(np.concatenate(parts), list(places))
    return pd.Series(found if ordered else found.reorder_categories(sorted(places)))


def _is_name(kind: Any) -> bool:
    return str(kind).startswith(("string", "large_string", "dictionary<"))


def _is_number(kind: Any) -> bool:
    return str(kind).startswith(("int", "uint", "float", "double", "halffloat", "bool"))


def _gaps(groups: Sequence[Any], names: Sequence[str]) -> bool:
    """Whether there may be missing values."""
    for group in groups:
        for number in range(group.num_columns):
            column = group.column(number)
            statistics = column.statistics
            if column.path_in_schema in names and (
                statistics is None or not statistics.has_null_count or statistics.null_count
            ):
                return True
    return False
