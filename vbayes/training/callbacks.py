"""What a fit calls on its way."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import numpy as np

from ..progress import CALLBACK, CTRL_C, Stop
from .history import History
from .training_state import TrainingState

F = TypeVar("F", bound=Any)  # a `Fit`, or `Restarts`

Callback = Callable[[TrainingState], object]
"""Called on the way; what returns True ends the fit."""


class Callbacks:
    """Those of one training.

    Args:
        callbacks: Whatever was handed in.
        stop: By which they end it.
        as_kept: What the copies that they ask for are to be.

    Attributes:
        error: That one of them has raised; none is called after it.
    """

    def __init__(
        self, callbacks: Sequence[Callback], stop: Stop, as_kept: Callable[[Any], Any] = lambda fit: fit
    ) -> None:
        self._callbacks, self._stop, self._as_kept = callbacks, stop, as_kept
        self.error: Exception | None = None

    def __bool__(self) -> bool:
        return bool(self._callbacks)

    def tell(self, rows: History, before: int, reach: Callable[[], Any]) -> None:
        """Calls each, between two steps and outside of everything that the steps are in.

        Args:
            rows: The history.
            before: How many of them have been told of.
            reach: Makes a copy of the fit so far.
        """
        if len(rows) == before or self.error:
            return
        state = TrainingState(rows, before, lambda: self._as_kept(reach()))
        try:
            for callback in self._callbacks:
                answer = callback(state)
                if isinstance(answer, (bool, np.bool_)) and answer:
                    self._stop.ask(CALLBACK)
        except KeyboardInterrupt:
            self._stop.ask(CTRL_C)
        except Exception as error:  # the steps end as if they were asked to; `handed_back` raises it
            self.error = error
            self._stop.ask(CALLBACK)
        finally:
            state.leave()

    def handed_back(self, fit: F) -> F:
        """What was reached; or the error of a callback, which has it as `fit`."""
        if self.error is None:
            return fit
        raise with_fit(self.error, fit)


def with_fit(error: Exception, fit: Any) -> Exception:
    """An error of a callback, with what was reached when it was raised."""
    first = not hasattr(error, "fit")
    error.fit = fit  # type: ignore[attr-defined]
    if first:
        error.add_note("Raised by a callback of vb.fit. Nothing is lost: this error's `.fit` has what was reached.")
    return error
