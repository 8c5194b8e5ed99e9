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
        self._told: dict[int, int] = {}  # index of a callback → number of rows that it has seen
        self.error: Exception | None = None

    def __bool__(self) -> bool:
        return bool(self._callbacks)

    def mark(self, steps: int, per_epoch: int) -> float:
        """The next step, after the given number, at which a callback must be called independently of the clock."""
        paces = [callback.pace(per_epoch) for callback in self._callbacks if isinstance(callback, Every)]
        return min((steps + pace - steps % pace for pace in paces), default=math.inf)

    def tell(self, rows: History, before: int, per_epoch: int, reach: Callable[[], Any]) -> None:
        """Calls each callback, between two steps and outside of the contexts of the steps.

        Args:
            rows: The history.
            before: The number of rows at the last call.
            per_epoch: Steps per epoch.
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
            except Exception as error:  # training stops as if requested; `handed_back` raises the error
                self.error = error
                self._stop.ask(CALLBACK)
                return
            finally:
                state.leave()
            if isinstance(answer, (bool, np.bool_)) and answer:
                self._stop.ask(CALLBACK)

    def handed_back(self, fit: F) -> F:
        """Returns the result; or raises the error of a callback, with the result as its `fit`."""
        if self.error is None:
            return fit
        raise with_fit(self.error, fit)


OF_CALLBACK = "_of_callback"  # attribute that marks errors raised by a callback


def with_fit(error: Exception, fit: Any) -> Exception:
    """An error of a callback, with the result so far."""
    first = not hasattr(error, OF_CALLBACK)
    try:
        error.fit = fit  # type: ignore[attr-defined]
        setattr(error, OF_CALLBACK, True)
    except (AttributeError, TypeError):  # an error that accepts no attributes is raised without it
        return error
    if first:
        error.add_note("Raised by a callback of vb.fit. Nothing is lost: this error's `.fit` has the fit so far.")
    return error
