"""When a program is checked against Pyro again."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

EARLY = 8, 64  # steps after which it is checked in any case
NEAREST = 256  # minimum number of steps between later checks
SHARE = 0.01  # maximum fraction of the time for later checks


class Looks:
    """Schedule of checks: after 8 and 64 steps, and from then on as often as a hundredth of the time allows.

    Args:
        taken: Number of steps before the first check.
    """

    def __init__(self, taken: int = 0) -> None:
        self._first, self._next = taken, taken + EARLY[0]
        self._last, self._ended = taken, time.perf_counter()

    def due(self, taken: int) -> bool:
        return taken >= self._next

    @contextmanager
    def look(self, taken: int) -> Iterator[None]:
        """Context for a check, which times it and schedules the next one."""
        began = time.perf_counter()
        yield
        ended = time.perf_counter()
        steps = taken - self._first
        if steps < EARLY[1]:
            self._next = self._first + EARLY[1]
        else:
            pace = max(began - self._ended, 1e-9) / max(taken - self._last, 1)  # seconds per step
            self._next = taken + max(NEAREST, int((ended - began) / (SHARE * pace)))
        self._last, self._ended = taken, ended
