"""One exception tree, so that a caller can catch as much or as little as they mean to.

::

    VBayesError
    ├── BadInput (ValueError)         what a user handed in does not fit
    │   ├── UnknownName               an estimator, pair or data set that does not exist
    │   ├── BadCall (TypeError)       arguments missing, or too many
    │   │   └── UnknownKeyword
    │   ├── BadData                   empty, NaN, wrong lengths, a batch larger than the data
    │   ├── BadPair                   model and guide do not fit each other
    │   ├── BadEstimator              a class of estimator that does not say, or keep, what it promises
    │   └── Unsuitable                an estimator that can't work on this pair
    ├── DataUnavailable (OSError)     a file that is missing, damaged or out of reach
    ├── OutputUnwritable (OSError)    a run folder that can't be written
    ├── TaskFailed (RuntimeError)     one measurement of a sweep went wrong
    ├── ProcessLost (RuntimeError)    of several processes that train together, one is not heard of any more
    ├── NonFinite (ArithmeticError)   the ELBO or its gradient became NaN or infinite
    └── CaptureFailed (RuntimeError)  a pair that can't be turned into a tensor program

Every message says what happened, what was got, what was wanted, and how to mend it.
"""

from __future__ import annotations

import difflib
import sys
import warnings
from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Any, Self

NOT_THE_CALLERS = {"vbayes", "pyro", "torch", "contextlib", "functools"}


def warn(message: str) -> None:
    """Warns as `warnings.warn` does, at the caller's line: the first one that is in no file of vbayes, nor of what it goes through."""
    level, frame = 2, sys._getframe(1)
    while frame.f_back and str(frame.f_globals.get("__name__")).partition(".")[0] in NOT_THE_CALLERS:
        level, frame = level + 1, frame.f_back
    warnings.warn(message, stacklevel=level)


class VBayesError(Exception):
    """Base of every error that vbayes raises on purpose."""


class BadInput(VBayesError, ValueError):
    """What a user handed in does not fit.

    Attributes:
        parts: Of the message, by their names: what, got, wanted and mend; empty where it was written in one piece.
    """

    parts: Mapping[str, str] = MappingProxyType({})

    @classmethod
    def of(cls, what: str, *, got: str, wanted: str, mend: str) -> Self:
        """An error of four parts.

        Args:
            what: Does not fit, with its value: "draws='3'".
            got: What that is: "a str".
            wanted: What would be: "an integer of at least 2".
            mend: How to make it so: "draws=3, without quotes".
        """
        error = cls(f"{what} is {got}. Wanted: {wanted}. Mend: {mend}.")
        error.parts = {"what": what, "got": got, "wanted": wanted, "mend": mend}
        return error


class UnknownName(BadInput):
    """A name that nothing is registered under.

    Args:
        kind: What was looked up, in words ("estimator").
        name: The name that was not found.
        known: The names there are.
    """

    def __init__(self, kind: str, name: str, known: Iterable[str]) -> None:
        known = sorted(known)
        hint = near(name, known)
        super().__init__(f"There is no {kind} named {name!r}. {hint}\nKnown: {', '.join(known)}.")


class BadCall(BadInput, TypeError):
    """A call with an argument too few, or too many."""


class UnknownKeyword(BadCall):
    """A keyword argument that the function does not have."""


class BadData(BadInput):
    """Data that nothing can be learnt from: empty, NaN, unequal lengths."""


class BadPair(BadInput):
    """A model and a guide that do not fit each other."""


class BadEstimator(BadInput):
    """A class of estimator that does not say, or keep, what it promises."""


class Unsuitable(BadInput):
    """An estimator that can't work on this pair."""


class DataUnavailable(VBayesError, OSError):
    """A data file that is missing, damaged or out of reach."""


class OutputUnwritable(VBayesError, OSError):
    """A run folder that can't be written."""


class TaskFailed(VBayesError, RuntimeError):
    """One measurement of a sweep went wrong; those that were made are kept."""


class ProcessLost(VBayesError, RuntimeError):
    """Of several processes that train one guide together, another one can't go on, or is not heard of any more."""


class NonFinite(VBayesError, ArithmeticError):
    """The ELBO or its gradient became infinite or NaN.

    Attributes:
        step: The step at which it happened, counted from 1.
        sites: The sample sites whose log-probability is not finite there.
        parameters: Those whose gradient is not finite there, or whose value after the step would not be.
        fit: What training had reached, a `Fit` or a `MonteCarloEM`: the history and the last finite parameters; None outside of training.
    """

    def __init__(
        self, message: str, *, step: int, sites: tuple[str, ...], fit: Any, parameters: tuple[str, ...] = ()
    ) -> None:
        super().__init__(message)
        self.step, self.sites, self.parameters, self.fit = step, sites, parameters, fit


class CaptureFailed(VBayesError, RuntimeError):
    """A pair that can't be turned into a pure tensor program; it still works, eagerly."""


def near(name: str, known: Iterable[str]) -> str:
    """A question after the names most like this one; empty if none is."""
    by_lower = {k.lower(): k for k in known}
    near = difflib.get_close_matches(name.lower(), by_lower, n=3, cutoff=0.4)
    return f"Did you mean {' or '.join(repr(by_lower[k]) for k in near)}?" if near else ""
