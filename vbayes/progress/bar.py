"""Progress bars for terminals, notebooks and logs."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from typing import Protocol

from .cell import Cell
from .lines import Lines
from .live import Live
from .phase import Phase
from .terminal import Terminal

SHARE = 100  # showing progress takes at most 1 / SHARE of the time


class View(Protocol):
    """A display for phases.

    Attributes:
        first: Seconds until the first update.
    """

    first: float

    def draw(self, phase: Phase, last: bool) -> float:
        """Shows the progress of a phase, possibly for the last time; returns the minimum number of seconds until the next update."""
        ...

    def close(self) -> None:
        """Called when there will be no further updates."""
        ...


class Bar:
    """The progress of some work, phase by phase.

    Args:
        view: The display; None for none.
        what, total, unit, seconds: See `bar`.
    """

    def __init__(self, view: View | None, what: str, total: int | None, unit: str, seconds: float) -> None:
        self._view, now = view, time.monotonic()
        self._ends = now + seconds
        self._now = Phase(what, total, unit, now, self._ends)
        self._due, self._drawn = now + view.first if view else math.inf, False
        self._draw_if_due()

    def __call__(self, done: int, note: Callable[[], str]) -> None:
        """Records that `done` units of this phase are finished; if it is time for an update, `note()` is called and shown."""
        if self._view:
            self._now.go(done, note)
            self._draw_if_due()

    def phase(self, what: str, total: int | None, unit: str) -> None:
        """Ends this phase and begins another."""
        if self._view:
            now = Phase(what, total, unit, time.monotonic(), self._ends)
            if self._now.first:
                self._draw(True)
                self._now = now
            else:  # the phase before had no finished units
                vars(self._now).update(vars(now))
            self._draw_if_due()

    def close(self) -> None:
        """Ends the last phase."""
        self._draw(True)
        if self._view:
            with suppress(OSError, ValueError):
                self._view.close()

    def _draw(self, last: bool) -> float:
        """Updates the display. If it can't be written to, such as a log on a full disk, work continues without it."""
        try:
            return self._view.draw(self._now, last) if self._view else math.inf
        except (OSError, ValueError):
            self._view = None
            return math.inf

    def _draw_if_due(self) -> None:
        if self._view and (began := time.monotonic()) >= self._due:
            pause = self._draw(False)
            ended = time.monotonic()
            cost = ended - began if self._drawn else 0.0  # the first update includes set-up
            self._due, self._drawn = ended + max(pause, SHARE * cost), True


_showing: ContextVar[bool] = ContextVar("showing", default=False)


@contextmanager
def bar(what: str, total: int | None, *, show: bool, unit: str = "", seconds: float = math.inf) -> Iterator[Bar]:
    """Shows progress: as a bar in a terminal or notebook, and otherwise as lines on standard error, at doubling intervals of at most half a
    minute. Work inside it, such as a callback, shows no bar of its own.

    Args:
        what: Label, in a word or two.
        total: Number of units of work; None if unknown.
        show: Whether to show anything.
        unit: Name of a unit of work, such as "step", if it has one.
        seconds: Maximum duration in seconds.
    """
    if not show or _showing.get():
        yield Bar(None, what, total, unit, seconds)
        return
    mark = _showing.set(True)
    try:
        shown = Bar(_view(), what, total, unit, seconds)
        try:
            yield shown
        finally:
            shown.close()
    finally:
        _showing.reset(mark)


def _view() -> View:
    console = Terminal(stderr=True)
    if console.is_jupyter:
        return Cell()
    return Live(console) if console.is_terminal and not console.is_dumb_terminal else Lines(console)
