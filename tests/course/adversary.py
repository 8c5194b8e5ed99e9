"""Whether a verdict can be fooled by a table that has lost numbers, whose errors are too wide, or that has one repeat."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pandas as pd
from pandas.api.types import is_float_dtype

import vbayes as vb
from tests.course.sabotage import decided

LOST, HUGE = float("nan"), 1e9
KEYS = ("seed", "step", "hidden", "latents", "penalty", "correlation", "at", "barrier", "place", "split", "h", "label")
"""Columns that say what was measured, and may hold fractions or gaps."""


def fooled(experiment: vb.Experiment, table: pd.DataFrame, sound: str) -> Iterator[str]:
    """What should have turned a verdict that holds, and has not.

    Numbers that can turn it, put in their place, must turn it when they are gone, all of a column or one. Errors without end must turn it, and so must all repeats but one
    gone, if there are some.
    """

    def says(column: str, rows: pd.Index, value: float) -> str:
        other = table.copy()
        other.loc[rows, column] = value
        return experiment.verdict(other)

    for column in [name for name in table if is_float_dtype(table[name]) and name not in KEYS]:
        known = table.index[table[column].notna()]
        for which, rows in {"all": known, "the first": known[:1], "the last": known[-1:]}.items():
            if says(column, rows, LOST).startswith("Holds") and not all(_holds(says, column, rows, by * HUGE) for by in (1, -1)):  # fmt: skip
                yield f"{which} of {column!r} gone"
        if column.endswith("se") and decided(says(column, known, HUGE)) == decided(sound):
            yield f"errors {column!r} without end"
    if "seed" in table and table.seed.nunique() > 1:
        one = experiment.verdict(table[table.seed == table.seed.min()])
        if one.startswith("Holds") or "nan" in one:
            yield f"one repeat: {one}"


def _holds(says: Callable[..., str], *change: object) -> bool:
    """False too where there is no such number, as of a negative one's logarithm."""
    try:
        return says(*change).startswith("Holds")
    except (ValueError, OverflowError, ZeroDivisionError):
        return False
