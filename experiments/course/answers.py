"""The first words of a verdict: holds, holds within bounds, fails here, or can't tell, and which check decided."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping

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


def not_above(value: float, se: float, than: float = 0.0, *, sure: float = 2.0) -> bool | None:
    """Whether nothing speaks for it that a value lies above another number: what a bound that may be tight is asked."""
    if not (math.isfinite(value) and math.isfinite(se)):
        return None
    return value - than <= sure * se


def every(answers: Iterable[bool | None]) -> bool | None:
    """False if one is, else None if one is, else True; None of none."""
    found = list(answers)
    return False if False in found else None if None in found or not found else True


def head(checks: Mapping[str, bool | None], bounds: Mapping[str, bool | None] | None = None) -> str:
    """The words before the colon.

    Args:
        checks: What must hold → whether it does; None where that can't be told.
        bounds: What the claim says beyond that, and holds within bounds without.

    Returns:
        "Holds", "Holds within bounds (not: ...)", "Fails here (...)" or "Can't tell (...)".

    Raises:
        BadInput: Nothing was checked.
    """
    if not checks:
        raise BadInput("A verdict without a check. Wanted: at least one.")
    checks, bounds = ({k: v if v is None else bool(v) for k, v in found.items()} for found in (checks, bounds or {}))
    if failed := [what for what, holds in checks.items() if holds is False]:
        return f"Fails here ({'; '.join(failed)})"
    if unknown := [what for what, holds in checks.items() if holds is None]:
        return f"Can't tell ({'; '.join(unknown)})"
    if left := [what for what, holds in bounds.items() if not holds]:
        return f"Holds within bounds (not: {'; '.join(left)})"
    return "Holds"


def measured(value: float, se: float, form: str = ".2f") -> str:
    """A value and its standard error; the value alone where it has none, as after one repeat."""
    return f"{value:{form}} ± {se:{form.removeprefix('+')}}" if math.isfinite(se) else f"{value:{form}}"
