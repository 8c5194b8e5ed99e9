"""The exceptions of vbayes, in one tree, so that callers can catch exactly as much as they want.

::

    VBayesError
    ├── BadInput (ValueError)         an argument is not valid
    │   ├── UnknownName               no estimator, pair or data set has this name
    │   ├── BadCall (TypeError)       arguments are missing, or there are too many
    │   │   └── UnknownKeyword        a keyword argument that the function does not have
    │   ├── BadData                   empty data, NaN, unequal lengths, a batch larger than the data
    │   ├── BadPair                   model and guide do not match
    │   ├── BadEstimator              an estimator class that breaks the contract of estimators
    │   └── Unsuitable                an estimator or method that can't be used with this pair
    ├── DataUnavailable (OSError)     a file that is missing, damaged or unreachable
    ├── OutputUnwritable (OSError)    a run folder that can't be written
    ├── TaskFailed (RuntimeError)     one measurement of a sweep failed
    ├── ProcessLost (RuntimeError)    in distributed training, another process failed or stopped responding
    ├── NonFinite (ArithmeticError)   the ELBO or its gradient became NaN or infinite
    └── CaptureFailed (RuntimeError)  a pair that can't be turned into a tensor program

Every message says what is wrong, what was given, what is wanted, and how to fix it.
"""

from __future__ import annotations

import difflib
import os
import sys
import warnings
from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Any, Self

NOT_THE_CALLERS = {"vbayes", "pyro", "torch", "contextlib", "functools"}


def warn(message: str) -> None:
    """Warns as `warnings.warn` does, at the line of user code that led here: the first frame outside vbayes, Pyro, PyTorch and the standard library's wrappers."""
    level, frame = 2, sys._getframe(1)
    while frame.f_back and str(frame.f_globals.get("__name__")).partition(".")[0] in NOT_THE_CALLERS:
        level, frame = level + 1, frame.f_back
    warnings.warn(message, stacklevel=level)


class VBayesError(Exception):
    """Base of every error that vbayes raises on purpose."""


class BadInput(VBayesError, ValueError):
    """An argument is not valid.

    Attributes:
        parts: Parts of the message by name: what, got, wanted and mend; empty if the message was written in one piece.
    """

    parts: Mapping[str, str] = MappingProxyType({})

    @classmethod
    def of(cls, what: str, *, got: str, wanted: str, mend: str) -> Self:
        """Makes an error from the four parts of its message.

        Args:
            what: The argument with its value: "draws='3'".
            got: What that value is: "a str".
            wanted: What is needed instead: "an integer of at least 2".
            mend: How to fix it: "draws=3, without quotes".
        """
        error = cls(f"{what} is {got}. Wanted: {wanted}. Fix: {mend}.")
        error.parts = {"what": what, "got": got, "wanted": wanted, "mend": mend}
        return error


class UnknownName(BadInput):
    """No estimator, pair, data set or the like has this name.

    Args:
        kind: What was looked up, in words ("estimator").
        name: The name that was not found.
        known: The names that exist.
    """

    def __init__(self, kind: str, name: str, known: Iterable[str]) -> None:
        known = sorted(known)
        hint = near(name, known)
        super().__init__(f"There is no {kind} named {name!r}. {hint}\nKnown: {', '.join(known)}.")


class BadCall(BadInput, TypeError):
    """A call with missing arguments, or too many."""


class UnknownKeyword(BadCall):
    """A keyword argument that the function does not have."""


class BadData(BadInput):
    """Data that can't be used: empty, NaN, or of unequal lengths."""


class BadPair(BadInput):
    """A model and a guide that do not match."""


class BadEstimator(BadInput):
    """An estimator class that breaks the contract of `vb.Estimator`."""


class Unsuitable(BadInput):
    """An estimator or method that can't be used with this pair."""


class DataUnavailable(VBayesError, OSError):
    """A data file that is missing, damaged or unreachable."""


class OutputUnwritable(VBayesError, OSError):
    """A run folder that can't be written."""


class TaskFailed(VBayesError, RuntimeError):
    """One measurement of a sweep failed; the completed ones are saved."""


class ProcessLost(VBayesError, RuntimeError):
    """In distributed training, another process failed or stopped responding."""


class NonFinite(VBayesError, ArithmeticError):
    """The ELBO or its gradient became infinite or NaN.

    Attributes:
        step: The step at which it happened, counted from 1.
        sites: The sample sites whose log-probability is not finite at that step.
        parameters: The parameters whose gradient is not finite at that step, or whose value would not be after it.
        fit: The `Fit` or `MonteCarloEM` so far, with the history and the last finite parameters; None outside of training.
    """

    def __init__(
        self, message: str, *, step: int, sites: tuple[str, ...], fit: Any, parameters: tuple[str, ...] = ()
    ) -> None:
        super().__init__(message)
        self.step, self.sites, self.parameters, self.fit = step, sites, parameters, fit


class CaptureFailed(VBayesError, RuntimeError):
    """A pair that can't be captured as a pure tensor program; it still works in eager mode."""


def near(name: str, known: Iterable[str]) -> str:
    """A "Did you mean" question with the most similar names; empty if there are none."""
    by_lower = {k.lower(): k for k in known}
    near = difflib.get_close_matches(name.lower(), by_lower, n=3, cutoff=0.4)
    return f"Did you mean {' or '.join(repr(by_lower[k]) for k in near)}?" if near else ""


def absent(path: str | os.PathLike[str]) -> str:
    """Says that a file or folder is not there, and which similar ones are; empty if it is there."""
    if os.path.exists(path):
        return ""
    hint = beside(path)
    return f"There is no file or folder {os.fspath(path)}.{hint and f' {hint}'}"


def beside(path: str | os.PathLike[str]) -> str:
    """A "Did you mean" question with the most similar names in the folder of a file that is not there; or that there is no such folder."""
    folder, name = os.path.split(os.fspath(path))
    try:
        names = [entry for entry in os.listdir(folder or os.curdir) if not entry.startswith(".")]
    except NotADirectoryError:
        return f"{folder} is not a folder."
    except OSError:
        return f"There is no folder {folder}."
    alike = sorted(each for each in names if os.path.splitext(each)[1] == os.path.splitext(name)[1])
    return near(name, names) or (f"There are: {', '.join(alike[:4])}." if alike else "")
