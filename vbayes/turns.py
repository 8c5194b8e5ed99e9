"""One thread at a time where all threads share something."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable
from functools import wraps
from typing import ParamSpec, TypeVar

from .errors import VBayesError

P = ParamSpec("P")
R = TypeVar("R")

LOOKS = 3  # in a row, a second apart, at which whoever holds the turn waits for threads
WAITING = ("threading.py", "joblib", "concurrent")  # in the name of the file in which somebody waits for threads


class Turn:
    """A lock that the same thread may take again, and that does not hang where its holder waits for those who wait for it."""

    def __init__(self) -> None:
        self._lock, self._holder = threading.RLock(), 0

    def __enter__(self) -> None:
        looks = 0
        while not self._lock.acquire(timeout=1.0):
            frame = sys._current_frames().get(self._holder)
            file = frame.f_code.co_filename if frame else ""
            looks = looks + 1 if any(name in file for name in WAITING) else 0
            if looks == LOOKS:
                raise VBayesError(
                    "Another thread waits for threads inside vb.seeded, Pair.scope or the like, and holds what this one needs: Pyro's parameter store and the global "
                    "random numbers, of which a process has one each. Wanted: threads that are started outside of such a block; each fit has a seed of its own."
                )
        self._holder = threading.get_ident()

    def __exit__(self, *_: object) -> None:
        self._lock.release()


TURN = Turn()
"""Whose turn it is to use what a process has once: Pyro's parameter store and handlers, the global random numbers, the validation of distributions.

Whoever seeds, enters a pair's scope or takes a step of an `SVI` holds it meanwhile, so fits in several threads take turns.
"""


def takes_turns(function: Callable[P, R]) -> Callable[P, R]:
    """Lets one thread at a time in."""

    @wraps(function)
    def alone(*args: P.args, **kwargs: P.kwargs) -> R:
        with TURN:
            return function(*args, **kwargs)

    return alone
