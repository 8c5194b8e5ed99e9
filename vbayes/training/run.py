"""The training loop: calls an engine for several steps at a time, and in between handles the progress bar, Ctrl-C and time limits."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from typing import Any, Protocol

from ..errors import CaptureFailed, warn
from .engine import Engine

INTERVAL = 0.1  # approximate seconds per call, that is, between checks of progress bar, callbacks and Ctrl-C
BY_PYRO = "From here on Pyro takes the steps one by one, which is slower."

Report = Callable[[Sequence[Any], float, float], object]
"""(the values of each step, seconds on the clock before these steps, and after them)."""


class Keeper(Protocol):
    """Something that saves a fit while it runs, such as an `Autosave`."""

    def due(self, steps: int) -> bool:
        """Whether it is time to save, at this number of steps."""
        ...

    def keep(self, fit: Any, *, must: bool = False, **told: Any) -> None:
        """Saves the current state."""
        ...


class Run:
    """Runs an engine.

    Args:
        engine: The engine that takes the steps.
        instead: Makes the engine to continue with if the model has changed since it was captured; without one, that is an
            error.

    Attributes:
        engine: What takes the steps now.
        taken: Steps so far.
        seconds: Time spent in steps and compilation, without checks of the model and callbacks.
        interrupted: Whether it was stopped by Ctrl-C.
        torn: Whether it was stopped in the middle of a step, so that parameters, optimiser and history may be inconsistent.
        why: Why another engine has taken over; empty if none has.
    """

    def __init__(self, engine: Engine, instead: Callable[[], Engine] | None = None) -> None:
        self.engine, self._instead = engine, instead
        self.taken, self.seconds, self.interrupted, self.torn, self.why = 0, 0.0, False, False, ""
        self._pace, self._rate = 1, 0.0  # steps per call; recent steps per second

    def go(
        self,
        steps: float,
        *,
        until: float = math.inf,
        report: Report = lambda values, began, ended: None,
        asked_to_stop: Callable[[], bool] = lambda: False,
        pause: Callable[[], bool] = lambda: False,
        finish: bool = True,
    ) -> None:
        """Trains to a total number of steps or a time limit, whichever comes first, or as far as possible.

        Args:
            steps: Total number of steps.
            until: Time limit on the clock.
            report: Called after each call of the engine.
            asked_to_stop: Checked equally often. A second Ctrl-C stops at once.
            pause: Likewise, tells whether to return for inspecting or saving the state; another call continues.
            finish: Whether the engine writes its state to pair and optimiser at the end.

        Raises:
            CaptureFailed: The model has changed, and there is no other engine to continue with.
        """
        try:
            while not self.over(steps, until):
                began, values = self.seconds, self._take(steps - self.taken, until - self.seconds)
                if len(values):
                    report(values, began, self.seconds)
                self.interrupted = asked_to_stop()
                if pause():
                    break
        except KeyboardInterrupt:  # a second Ctrl-C, or one raised by the model
            self.interrupted = self.torn = True
        if finish:
            self.engine.finish()

    def over(self, steps: float, until: float = math.inf) -> bool:
        """Whether `go` would take no step."""
        return self.taken >= steps or self.seconds >= until or bool(self.engine.failure) or self.interrupted

    def _take(self, left: float, room: float) -> Sequence[Any]:
        try:
            self.engine.look_again()
        except CaptureFailed as error:
            self.engine.finish()
            if self._instead is None:
                raise
            warn(f"{error}\n{BY_PYRO}")
            self.why = str(error)
            self.engine, self._pace = self._instead(), 1
        count = int(min(self._pace, left))
        if room < math.inf:
            count = max(1, min(count, int(room * self._rate)))
        start = time.perf_counter()
        values = self.engine.take(count)
        took = max(time.perf_counter() - start, 1e-9)
        self.taken, self.seconds, self._rate = self.taken + len(values), self.seconds + took, len(values) / took
        if self.engine.several:
            self._pace = max(1, min(2 * self._pace, int(count * INTERVAL / took)))
        return values
