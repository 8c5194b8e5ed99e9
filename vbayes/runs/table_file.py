"""Tables as JSON, from which they are restored exactly; the file can't contain code, and damage is detected.

The first line names the format and the SHA-256 of the rest, which has the index, the columns' names and the columns, each with its dtype. Python writes floats
as the shortest decimals that identify them, so they are read back exactly.
"""

from __future__ import annotations

import hashlib
import json
from typing import Any

import numpy as np
import pandas as pd

HEAD = "vbayes table 1"
NUMBERS = {"bool", "float16", "float32", "float64", *(f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64))}  # fmt: skip
_PLAIN = (type(None), bool, int, float, str)
_NESTS = {"list": list, "tuple": tuple, "dict": dict}


class Unwritable(Exception):
    """A table with something that the format can't represent; the message says what."""


def to_bytes(table: pd.DataFrame) -> bytes:
    """Encodes a table.

    Raises:
        Unwritable: An entry, a dtype or an index can't be represented.
    """
    columns = [_array(table.iloc[:, place], repr(name)) for place, name in enumerate(table.columns)]
    content = {"index": _index(table.index), "names": _index(table.columns), "columns": columns, "attrs": _cell(table.attrs)}  # fmt: skip
    body = json.dumps(content).encode()
    return f"{HEAD} {hashlib.sha256(body).hexdigest()}\n".encode() + body


def of_bytes(content: bytes) -> pd.DataFrame:
    """Decodes a table.

    Raises:
        ValueError: The content is damaged, or not from `to_bytes`.
    """
    head, _, body = content.partition(b"\n")
    if head != f"{HEAD} {hashlib.sha256(body).hexdigest()}".encode():
        raise ValueError("it is not as it was written")
    try:
        told = json.loads(body)
        columns = {place: _read_array(column) for place, column in enumerate(told["columns"])}
        table = pd.DataFrame(columns, index=_read_index(told["index"]))
        table.columns = _read_index(told["names"])
        table.attrs = _read_cell(told["attrs"])
    except (KeyError, TypeError, AttributeError, OverflowError, RecursionError) as error:
        raise ValueError(f"it is not a table: {error!r}") from error
    return table


def _array(values: Any, name: str) -> dict[str, Any]:
    kind = str(values.dtype)
    if kind in NUMBERS or kind == "str":
        return {"dtype": kind, "values": values.tolist()}
    if kind == "object":
        return {"dtype": kind, "values": [_cell(value) for value in values]}
    raise Unwritable(f"column {name} is of type {kind}")


def _read_array(told: dict[str, Any]) -> Any:
    kind, values = told["dtype"], told["values"]
    if kind in NUMBERS:
        return np.array(values, dtype=kind)
    if kind == "str":
        return pd.array(values, dtype="str")
    if kind != "object":
        raise ValueError(f"no column is of type {kind!r}")
    made = np.empty(len(values), dtype=object)
    for place, value in enumerate(
        values
    ):  # one by one, as NumPy would turn lists of equal length into another dimension
        made[place] = _read_cell(value)
    return made


def _index(index: pd.Index) -> dict[str, Any]:
    if isinstance(index, pd.RangeIndex):
        return {"range": [index.start, index.stop, index.step], "name": _cell(index.name)}
    if isinstance(index, pd.MultiIndex):
        raise Unwritable("it has an index of several levels")
    return _array(index, "of the index") | {"name": _cell(index.name)}


def _read_index(told: dict[str, Any]) -> pd.Index:
    name = _read_cell(told["name"])
    if "range" in told:
        return pd.RangeIndex(*told["range"], name=name)
    return pd.Index(_read_array(told), name=name)


def _cell(value: Any) -> Any:
    """An entry as JSON: plain values unchanged, anything else as a dictionary from its type to its content."""
    if type(value) in _PLAIN:
        return value
    if type(value) in (list, tuple):
        return {type(value).__name__: [_cell(entry) for entry in value]}
    if type(value) is dict:
        return {"dict": [[_cell(name), _cell(entry)] for name, entry in value.items()]}
    if isinstance(value, np.generic) and str(value.dtype) in NUMBERS:
        return {str(value.dtype): value.item()}
    raise Unwritable(f"an entry is of type {type(value).__name__}")


def _read_cell(told: Any) -> Any:
    if not isinstance(told, dict):
        return told
    ((kind, content),) = told.items()
    if kind in NUMBERS:
        return np.dtype(kind).type(content)
    entries = [_read_cell(entry) if kind != "dict" else tuple(map(_read_cell, entry)) for entry in content]
    return _NESTS[kind](entries)
