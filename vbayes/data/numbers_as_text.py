"""Columns of text that are numbers: a '?' or decimal commas in a file make a column text, and codes of its values would be used as numbers silently."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence

import pandas as pd

from ..arguments.kind import refuse
from ..errors import BadData

NUMBER = re.compile(r"[+-]?(\d+[.,]?\d*|[.,]\d+)([eE][+-]?\d+)?|[+-]?\d{1,3}([,.]\d{3})+([.,]\d+)?")
PLAIN = re.compile(r"[+-]?\d+")  # could also be the number of a group
SYMBOLS = "%€$£ "  # beside a number
MISSING = ("na", "n/a", "nan", "nil", "none", "null", "missing", "unknown")  # beside what has no letters, such as "?"
LABELS = (
    3  # minimum number of distinct values, at least half of them numbers; two are more likely the names of two groups
)


def refuse_numbers(name: str, values: pd.Series, names: Sequence[str]) -> None:
    """Raises `BadData` if most labels of a column of text are numbers.

    Integers are accepted, as they may be the names of groups ("1", "2", "12a", "5 mg"), unless all other labels stand for missing values.

    Args:
        name: Name of the column.
        values: (N,) texts, or NaN.
        names: The distinct texts.
    """
    unit = _unit(names)
    numbers = {each for each in names if NUMBER.fullmatch(each.strip().removesuffix(unit).strip(SYMBOLS))}
    others = [each for each in names if each not in numbers]
    if len(names) < LABELS or 2 * len(numbers) < len(names):
        return
    if all(PLAIN.fullmatch(each.strip().removesuffix(unit)) for each in numbers) and not (
        others and all(map(_missing, others))
    ):
        return
    known = values.notna().to_numpy()
    right = values.isin(numbers).to_numpy()
    got, column = "text, but all of its values are numbers", f"df[{name!r}]"
    numeric = column
    if unit:
        numeric += f".str.removesuffix({unit!r})"
    elif any(each.strip()[:1] in SYMBOLS or each.strip()[-1:] in SYMBOLS for each in numbers):
        numeric += f".str.strip({SYMBOLS!r})"
    if commas := next((each for each in names if each in numbers and "," in each), ""):
        numeric += ".str.replace(',', '.')"
    if others:
        row = int((known & ~right).argmax())
        got = f"text, but {int(right.sum())} of its {int(known.sum())} values are numbers; {values.iloc[row]!r} in row {row} is not"
        numeric += ", errors='coerce'"
    elif commas:
        got += f" with a comma, such as {commas!r}"
    refuse(
        f"column {name!r}",
        object(),
        got=got,
        wanted="numbers, or names of groups",
        mend=f"{column} = pd.to_numeric({numeric}){', or, where commas separate thousands, pd.read_csv(..., thousands=' + repr(',') + ')' if commas else ''}; "
        f"if they are names of groups, {column} = {column}.astype('category'), or for a file vb.data.read(..., categorical=[{name!r}]), or --categorical {name}",
        error=BadData,
    )


def _unit(names: Sequence[str]) -> str:
    """The common ending of all of them after a number, as in "1.5 kg"; empty if one is a number without it, such as "1.5e3"."""
    if any(NUMBER.fullmatch(each.strip()) for each in names):
        return ""
    return os.path.commonprefix([each.strip()[::-1] for each in names])[::-1].lstrip("0123456789.,")


def _missing(text: str) -> bool:
    return not any(map(str.isalnum, text)) or text.strip().lower() in MISSING
