"""Tables for pages: numbers with three digits, right-aligned; text, left-aligned; columns of long lists left out."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

FEW = 4  # maximum length of a list shown in a cell


def table_of(
    columns: Sequence[Any], rows: Sequence[Sequence[Any]], headings: Sequence[str] | None = None
) -> dict[str, Any]:
    """A table in the form that the page's template needs.

    Args:
        columns: Names.
        rows: Rows of values as in JSON; "inf" stands for ∞.
        headings: Headings to show; the names if None.

    Returns:
        columns: heading of each column that can be shown, and whether it is numeric. rows: lists of cells, each with its text and, if any, the number by which it is
        sorted. best: whether a row is marked. left_out: names of columns of long lists.
    """
    headings = [str(name) for name in columns] if headings is None else headings
    width = min([len(columns), *map(len, rows)])
    held = [[row[place] for row in rows] for place in range(width)]
    shown = [place for place in range(width) if not any(_is_long(value) for value in held[place])]
    return {
        "columns": [{"name": headings[p], "number": all(map(_is_number, held[p]))} for p in shown],
        "rows": [[{"text": cell(row[p]), "key": _key(row[p])} for p in shown] for row in rows],
        "best": [False] * len(rows),
        "left_out": [str(columns[p]) for p in range(width) if p not in shown],
    }


def cell(value: Any) -> str:
    """A value as text."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list):
        return ", ".join(map(cell, value)) or "–"
    return short(value) if value is None or isinstance(value, float) or value in ("inf", "-inf") else str(value)


def plain(value: Any) -> str:
    """A setting as text, as it was given, without further digits."""
    if isinstance(value, float) and math.isfinite(value):
        return f"{value:g}"
    if isinstance(value, list):
        return ", ".join(map(plain, value)) or "–"
    if isinstance(value, dict):
        return ", ".join(f"{name} = {plain(entry)}" for name, entry in value.items()) or "–"
    return cell(value)


def short(value: float | str | None) -> str:
    """A number with three digits, with ×10ⁿ if that is easier to read."""
    if value is None or value != value:
        return "–"
    if not isinstance(value, str) and math.isinf(value):
        value = str(value)
    if isinstance(value, str):  # "inf", which JSON can't represent as a number
        return value.replace("inf", "∞").replace("-", "−")
    if value == 0:
        return "0"
    exponent = math.floor(math.log10(abs(value)))
    if -3 <= exponent < 5:
        return f"{value:,.{max(0, 2 - exponent)}f}".replace("-", "−")
    superscript = str(exponent).translate(str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹"))
    return f"{value / 10**exponent:.2f}×10{superscript}".replace("-", "−")


def signed(value: Any) -> str:
    """A number with its sign and one decimal."""
    known = isinstance(value, (int, float)) and math.isfinite(value)
    return f"{value:+.1f}".replace("-", "−") if known else short(value)


def _is_number(value: Any) -> bool:
    return (
        value is None or value in ("inf", "-inf") or (isinstance(value, (int, float)) and not isinstance(value, bool))
    )


def _is_long(value: Any) -> bool:
    return isinstance(value, dict) or (
        isinstance(value, list) and (len(value) > FEW or any(isinstance(v, (list, dict)) for v in value))
    )


def _key(value: Any) -> str:
    """The number by which the page's script sorts; empty if there is none."""
    if value is None or not _is_number(value):
        return ""
    try:
        return str(float(value)).replace("inf", "Infinity")
    except OverflowError:  # a huge integer
        return ""
