"""Ctrl-C and SIGTERM between steps."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NoReturn

from .terminal import Terminal

CTRL_C, CALLBACK = "Ctrl-C", "a callback"
WHO = (CTRL_C, "SIGTERM", CALLBACK)
"""The signals that ask work to stop."""


class Stop:
    """Whether work should stop between two steps.

    Attributes:
        by: What asked to stop; empty if nothing did.
    """

    def __init__(self) -> None:
        self.by = ""

    def ask(self, by: str) -> None:
        """Requests a stop."""
        self.by = self.by or by

    def __call__(self) -> bool:
        return bool(self.by)


@contextmanager
def between_steps(patience: float = 0.0, *, saves: bool = False, says: bool = True) -> Iterator[Stop]:
    """Makes Ctrl-C wait for the end of a step, so that parameters, optimiser and history stay consistent; a second Ctrl-C does not wait.

    SIGTERM, which clusters send before they kill a process, ends the process as it does in any Python program, if the program has no handler of its own for it: at once; or, if the steps
    are saved to a file, after the step and once they are saved, with status 143. A program's own handler is left in place. On the command line, whose handler is `terminated`, SIGTERM
    stops the work, as Ctrl-C does, and the command ends the process. `stops` returns these signals afterwards.

    Args:
        saves: Whether the work, once it is asked to stop, saves its steps before it leaves this context.
        says: Whether to say on stderr that SIGTERM has ended the process and the steps are saved.
        patience: Seconds after the first signal in which further ones are ignored, for launchers that forward a signal which the terminal has already sent.
    """
    stop, pressed, first = Stop(), False, 0.0

    def note(number: int, _: Any) -> None:
        nonlocal pressed, first
        if pressed and time.monotonic() - first >= patience:
            raise KeyboardInterrupt
        if not pressed:
            pressed, first = True, time.monotonic()
            stop.ask(CTRL_C if number == signal.SIGINT else signal.Signals(number).name)
            _stops.append(number)

    if threading.current_thread() is not threading.main_thread():  # signals only arrive in the main thread
        yield stop
        return
    before = {signal.SIGINT: signal.signal(signal.SIGINT, note)}
    usual = saves and signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
    if usual or signal.getsignal(signal.SIGTERM) is terminated:
        before[signal.SIGTERM] = signal.signal(signal.SIGTERM, note)
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler or signal.SIG_DFL)
    if usual and stop.by == signal.SIGTERM.name:
        if says:
            Terminal(stderr=True).print(
                "Stopped by SIGTERM. The steps so far are saved; the same call continues.",
                soft_wrap=True,
                highlight=False,
            )
        terminated(signal.SIGTERM, None)


_stops: list[int] = []


def stops() -> tuple[int, ...]:
    """The signals that have stopped work in this process, in order."""
    return tuple(_stops)


def terminated(number: int, _: Any) -> NoReturn:
    """A handler of SIGTERM: ends the process with status 143, and tidies up on the way, as an error does."""
    raise SystemExit(128 + number)
