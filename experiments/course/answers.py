"""The first words of a verdict: holds, holds within bounds, fails here, or can't tell, and which check decided."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping

import pandas as pd

from vbayes.errors import BadInput


def above(value: float, se: float, than: float = 0.0, *, sure: float = 2.0) -> bool | None:
    """Whether a measured value lies above another number.

    Args:
        value, se: It and its standard error; NaN where there is none, as of one repeat.
        than: The other.
        sure: Standard errors, from which on one is sure.

    Returns:
        True or False; None where the error is too wide to say.
    """
    if not (math.isfinite(value) and math.isfinite(se)):
        return None
    return None if abs(value - than) <= sure * se else value > than


def not_above(value: float, se: float, than: float = 0.0, *, within: float, sure: float = 2.0) -> bool | None:
    """Whether a value does not lie above another number, but for a margin: what a bound that may be tight is asked, and a method that is to be no worse.

    Args:
        value, se, than, sure: As for `above`.
        within: The margin. Without one an error that is wide enough would pass anything.

    Returns:
        False where the value surely lies above, True where it surely lies above by less than the margin, None where the error is too wide for either.
    """
    if not (math.isfinite(value) and math.isfinite(se)):
        return None
    if value - than > sure * se:
        return False
    return True if value + sure * se <= than + within else None


def every(answers: Iterable[bool | None]) -> bool | None:
    """False if one is, else None if one is, else True; None of none."""
    found = list(answers)
    return False if False in found else None if None in found or not found else True


def of_repeats(values: pd.Series) -> tuple[float, float]:
    """Mean and standard error of independent values; both NaN where one of them is, the error where there is only one."""
    return float(values.mean(skipna=False)), float(values.sem(skipna=False))


def head(checks: Mapping[str, bool | None], bounds: Mapping[str, bool | None] | None = None) -> str:
    """The words before the colon.

    Args:
        checks: What must hold → whether it does; None where that can't be told.
        bounds: What the claim says beyond that, and holds within bounds without.

    Returns:
        "Holds", "Holds within bounds (not: ...; can't tell: ...)", "Fails here (...)" or "Can't tell (...)".

    Raises:
        BadInput: Nothing was checked.
    """
    if not checks:
        raise BadInput("A verdict without a check. Wanted: at least one.")
    if failed := _names(checks, False):
        return f"Fails here ({failed})"
    if unknown := _names(checks, None):
        return f"Can't tell ({unknown})"
    bounds = bounds or {}
    left = [f"{word}: {names}" for word, answer in (("not", False), ("can't tell", None)) if (names := _names(bounds, answer))]  # fmt: skip
    return f"Holds within bounds ({'; '.join(left)})" if left else "Holds"


def _names(checks: Mapping[str, bool | None], answer: bool | None) -> str:
    """Of the checks with this answer."""
    return "; ".join(what for what, holds in checks.items() if (holds if holds is None else bool(holds)) is answer)


def measured(value: float, se: float, form: str = ".2f") -> str:
    """A value and its standard error; the value alone where it has none, as after one repeat."""
    return f"{value:{form}} ± {se:{form.removeprefix('+')}}" if math.isfinite(se) else f"{value:{form}}"
