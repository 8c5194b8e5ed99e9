"""Callbacks of a fit."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import numpy as np

from ..progress import CALLBACK, CTRL_C, Stop
from .every import Every
from .history import History
from .training_state import TrainingState

F = TypeVar("F", bound=Any)  # a `Fit`, or `Restarts`

Callback = Callable[[TrainingState], object]
"""Called during training; returning True stops the fit."""


class Callbacks:
    """The callbacks of one fit.

    Args:
        callbacks: The callbacks of the user.
        stop: Stops the fit.
        as_kept: Converts the copies of the fit that callbacks request.

    Attributes:
        error: The error raised by one of them, after which none is called.
    """

    def __init__(
        self, callbacks: Sequence[Callback], stop: Stop, as_kept: Callable[[Any], Any] = lambda fit: fit
    ) -> None:
        self._callbacks, self._stop, self._as_kept = callbacks, stop, as_kept
        self._told: dict[int, int] = {}  # place of a callback → the rows that it has been told of
        self.error: Exception | None = None

    def __bool__(self) -> bool:
        return bool(self._callbacks)

    def mark(self, steps: int, per_epoch: int) -> float:
        """The next step after so many at which one of them is to be called, whatever the clock says."""
        paces = [callback.pace(per_epoch) for callback in self._callbacks if isinstance(callback, Every)]
        return min((steps + pace - steps % pace for pace in paces), default=math.inf)

    def tell(self, rows: History, before: int, per_epoch: int, reach: Callable[[], Any]) -> None:
        """Calls each, between two steps and outside of everything that the steps are in.

        Args:
            rows: The history.
            before: How many of them were there at the last time.
            per_epoch: Steps of an epoch.
            reach: Makes a copy of the fit so far.
        """
        if len(rows) == before or self.error:
            return
        fit = functools.cache(lambda: self._as_kept(reach()))
        for place, callback in enumerate(self._callbacks):
            told = self._told.setdefault(place, before)
            if isinstance(callback, Every) and len(rows) % callback.pace(per_epoch):
                continue
            state, self._told[place] = TrainingState(rows, told, fit), len(rows)
            try:
                answer = callback(state)
            except KeyboardInterrupt:
                self._stop.ask(CTRL_C)
                return
            except Exception as error:  # the steps end as if they were asked to; `handed_back` raises it
                self.error = error
                self._stop.ask(CALLBACK)
                return
            finally:
                state.leave()
            if isinstance(answer, (bool, np.bool_)) and answer:
                self._stop.ask(CALLBACK)

    def handed_back(self, fit: F) -> F:
        """What was reached; or the error of a callback, which has it as `fit`."""
        if self.error is None:
            return fit
        raise with_fit(self.error, fit)


OF_CALLBACK = "_of_callback"  # an attribute of errors that a callback has raised


def with_fit(error: Exception, fit: Any) -> Exception:
    """An error of a callback, with what was reached when it was raised."""
    first = not hasattr(error, OF_CALLBACK)
    try:
        error.fit = fit  # type: ignore[attr-defined]
        setattr(error, OF_CALLBACK, True)
    except (AttributeError, TypeError):  # an error that takes nothing: it is raised all the same
        return error
    if first:
        error.add_note("Raised by a callback of vb.fit. Nothing is lost: this error's `.fit` has the fit so far.")
    return error
