"""The training loop: calls an engine for several steps at a time, and in between handles the progress bar, Ctrl-C and time limits."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from typing import Any, Protocol

from ..errors import CaptureFailed, warn
from .engine import Engine

INTERVAL = 0.1  # seconds of a call, about: between two looks at progress bar, callbacks and Ctrl-C
BY_PYRO = "From here on Pyro takes the steps one by one, which is slower."

Report = Callable[[Sequence[Any], float, float], object]
"""(what each step has to report, seconds on the clock before these steps, and after them)."""


class Keeper(Protocol):
    """What keeps a fit while it runs: an `Autosave`."""

    def due(self, steps: int) -> bool:
        """Whether it is time, so many steps into the fit."""
        ...

    def keep(self, fit: Any, *, must: bool = False, **told: Any) -> None:
        """Writes what was reached."""
        ...


class Run:
    """Runs an engine.

    Args:
        engine: What takes them.
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
        self._pace, self._rate = 1, 0.0  # steps in a call; steps a second, of late

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
            steps: In all.
            until: On the clock.
            report: Called after each call of the engine.
            asked_to_stop: Looked at as often. A second Ctrl-C ends it at once.
            pause: Likewise, whether to return for inspecting or saving the state; another call continues.
            finish: Let the engine hand over what it holds back, in the end.

        Raises:
            CaptureFailed: The model has changed, and nothing can go on instead.
        """
        try:
            while not self.over(steps, until):
                began, values = self.seconds, self._take(steps - self.taken, until - self.seconds)
                if len(values):
                    report(values, began, self.seconds)
                self.interrupted = asked_to_stop()
                if pause():
                    break
        except KeyboardInterrupt:  # a second one, or the model's own
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
