"""A part of some work, and its progress in words."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass


@dataclass
class Phase:
    """A named part of the work.

    Attributes:
        what: Label, in a word or two.
        total: Number of units of work; None if unknown.
        unit: Name of a unit of work, such as "step", if it has one.
        began: Time at its start, in seconds.
        ends: Latest time at which it ends.
        done: Number of finished units.
        note: Further text to show at present.
        first: Time of the first progress, and number of units finished then.
    """

    what: str
    total: int | None
    unit: str
    began: float
    ends: float
    done: int = 0
    note: Callable[[], str] = str
    first: tuple[float, int] | None = None

    def go(self, done: int, note: Callable[[], str]) -> None:
        """Records the progress."""
        self.done, self.note = done, note
        self.first = self.first or (time.monotonic(), done)

    def text(self, over: bool) -> str:
        """`1,200/5,000 steps, 12 s, 38 s left: the note`, without the time left for a finished phase."""
        now = time.monotonic()
        far = f"{self.done:,}" + ("" if self.total is None else f"/{self.total:,}")
        if self.unit:
            far += f" {self.unit}" + ("" if (self.total or self.done) == 1 else "s")
        words = [far, clock(now - self.began)]
        if over:
            pass
        elif self.total is None and self.ends < math.inf:
            words.append(f"at most {clock(self.ends - now)} left")
        elif self.total is not None and self.first and self.first[1] < self.done < self.total:
            pace = (now - self.first[0]) / (self.done - self.first[1])  # compilation at the beginning happens only once
            words.append(f"{clock(pace * (self.total - self.done))} left")
        note = self.note()
        return ", ".join(words) + (f": {note}" if note else "")


def clock(seconds: float) -> str:
    """`7 s`, `2 min 5 s`, `3 h 2 min`."""
    whole = max(0, round(seconds))
    if whole < 60:
        return f"{whole} s"
    minutes, left = divmod(whole, 60)
    return f"{minutes} min {left} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"
