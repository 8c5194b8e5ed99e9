"""The first words of a verdict: holds, holds within bounds, fails here, or can't tell; and the checks that decided it."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping

import pandas as pd
from scipy import stats

from vbayes.errors import BadInput
from vbayes.summaries.joint import joint_limit


def above(
    value: float, se: float, than: float = 0.0, *, sure: float = 2.0, of: int = 1, repeats: float = math.inf
) -> bool | None:
    """Whether a measured value lies above a threshold.

    Of a value that equals the threshold, True and False are each said with a probability of 2.3 % for the default `sure`. A check that asks this of `every` one of several values is wrongly
    True with at most that probability, however many there are, as all must be; it is wrongly False with up to as many times that probability, which `of` takes off.

    Args:
        value, se: The value and its standard error; the latter is NaN if unknown, for example with one repeat.
        than: The threshold.
        sure: Standard errors, from which on one is sure, of a single value whose error is known.
        of: Number of values of which one is enough to fail a check: more standard errors are asked for, so that any of them fails it as rarely as a single one.
        repeats: From which the error is computed: of few, Student's t asks for more standard errors.

    Returns:
        True or False; None if the error is too large to decide.
    """
    if not (math.isfinite(value) and math.isfinite(se)):
        return None
    return None if abs(value - than) <= limit(sure, of, repeats) * se else value > than


def limit(sure: float, of: int, repeats: float) -> float:
    """Standard errors that the largest of some values, each from some repeats, exceeds by chance as rarely as a normal number exceeds `sure`."""
    if of == 1 and math.isinf(repeats):
        return sure
    return joint_limit(of, level=2 * float(stats.norm.sf(sure)), freedom=repeats - 1)


def not_above(
    value: float,
    se: float,
    than: float = 0.0,
    *,
    within: float,
    sure: float = 2.0,
    of: int = 1,
    repeats: float = math.inf,
) -> bool | None:
    """Whether a value does not lie above another number, but for a margin: what a bound that may be tight is asked, and a method that is to be no worse.

    Args:
        value, se, than, sure, of, repeats: As for `above`.
        within: The margin. Without one an error that is wide enough would pass anything.

    Returns:
        False if the value certainly lies above, True if it certainly lies above by less than the margin, None if the error is too large to decide.
    """
    if not (math.isfinite(value) and math.isfinite(se)):
        return None
    room = limit(sure, of, repeats) * se
    if value - than > room:
        return False
    return True if value + room <= than + within else None


def every(answers: Iterable[bool | None]) -> bool | None:
    """False if any answer is False, else None if any is None, else True; None if there are no answers."""
    found = list(answers)
    return False if False in found else None if None in found or not found else True


def of_repeats(values: pd.Series) -> tuple[float, float]:
    """Mean and standard error of independent values; both are NaN if a value is, and the error also if there is only one value."""
    return float(values.mean(skipna=False)), float(values.sem(skipna=False))


def surely(values: pd.Series, than: float = 0.0) -> bool | None:
    """`above` for the mean of independent values, a few of them or many."""
    return above(*of_repeats(values), than, repeats=len(values))


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
