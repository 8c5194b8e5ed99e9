"""The first words of a verdict: holds, holds within bounds, fails here, or can't tell; and the checks that decided it."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping

import pandas as pd

from vbayes.errors import BadInput


def above(value: float, se: float, than: float = 0.0, *, sure: float = 2.0) -> bool | None:
    """Whether a measured value lies above a threshold.

    Args:
        value, se: The value and its standard error; the latter is NaN if unknown, for example with one repeat.
        than: The threshold.
        sure: Number of standard errors required for a decision.

    Returns:
        True or False; None if the error is too large to decide.
    """
    if not (math.isfinite(value) and math.isfinite(se)):
        return None
    return None if abs(value - than) <= sure * se else value > than


def not_above(value: float, se: float, than: float = 0.0, *, within: float, sure: float = 2.0) -> bool | None:
    """Whether a value does not lie above a threshold by more than a margin: for bounds that may be tight, and for methods that should be no worse.

    Args:
        value, se, than, sure: As for `above`.
        within: The margin. Without one, a large enough error would pass anything.

    Returns:
        False if the value certainly lies above, True if it certainly lies above by less than the margin, None if the error is too large to decide.
    """
    if not (math.isfinite(value) and math.isfinite(se)):
        return None
    if value - than > sure * se:
        return False
    return True if value + sure * se <= than + within else None


def every(answers: Iterable[bool | None]) -> bool | None:
    """False if any answer is False, else None if any is None, else True; None if there are no answers."""
    found = list(answers)
    return False if False in found else None if None in found or not found else True


def of_repeats(values: pd.Series) -> tuple[float, float]:
    """Mean and standard error of independent values; both are NaN if a value is, and the error also if there is only one value."""
    return float(values.mean(skipna=False)), float(values.sem(skipna=False))


def head(checks: Mapping[str, bool | None], bounds: Mapping[str, bool | None] | None = None) -> str:
    """The words before the colon.

    Args:
        checks: Requirement → whether it holds; None if undecided.
        bounds: Further parts of the claim; if one of them does not hold, the claim holds within bounds.

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
    """The names of the checks with this answer."""
    return "; ".join(what for what, holds in checks.items() if (holds if holds is None else bool(holds)) is answer)


def measured(value: float, se: float, form: str = ".2f") -> str:
    """A value and its standard error as text; the value alone if the error is unknown, for example after one repeat."""
    return f"{value:{form}} ± {se:{form.removeprefix('+')}}" if math.isfinite(se) else f"{value:{form}}"
