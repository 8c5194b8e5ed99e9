"""Long work: a live bar, and Ctrl-C at a good moment."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

REFRESH = 0.1  # seconds between redraws; more often costs more than it shows


class Terminal(Console):
    """Where words and bars go. Where nobody reads them any more, as in `vbayes list | head`, they go nowhere, and work goes on."""

    def on_broken_pipe(self) -> None:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, self.file.fileno())
        os.close(nowhere)


@contextmanager
def bar(what: str, total: int, *, show: bool) -> Iterator[Callable[[int, Callable[[], str]], None]]:
    """A progress bar over `total` pieces of work.

    Args:
        what: What is being done, in a word.
        total: Pieces.
        show: Whether to draw at all.

    Yields:
        `advance(done, note)`: `done` pieces are behind us; `note()` is called, and shown, where a redraw is due.
    """
    if not show:
        yield lambda done, note: None
        return
    columns = (
        TextColumn("{task.description}"),
        BarColumn(bar_width=24),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}"),
    )
    with Progress(*columns, console=Terminal(), auto_refresh=False) as progress:
        task = progress.add_task(what, total=total, note="")
        shown = 0.0

        def advance(done: int, note: Callable[[], str]) -> None:
            nonlocal shown
            if done >= total or time.monotonic() - shown > REFRESH:
                shown = time.monotonic()
                progress.update(task, completed=done, note=note(), refresh=True)

        yield advance


@contextmanager
def between_steps(patience: float = 0.0) -> Iterator[Callable[[], bool]]:
    """Ctrl-C waits for the end of a step, so that parameters, optimiser and history stay together; a second one does not.

    So does SIGTERM, by which clusters say that they are about to kill, unless the program has a handler of its own for it. `stops` knows afterwards.

    Args:
        patience: Seconds after the first signal in which others are no second one: where a launcher hands on what the terminal has sent already.
    """
    pressed, first = False, 0.0

    def note(number: int, _: Any) -> None:
        nonlocal pressed, first
        if pressed and time.monotonic() - first >= patience:
            raise KeyboardInterrupt
        if not pressed:
            pressed, first = True, time.monotonic()
            _stops.append(number)

    if threading.current_thread() is not threading.main_thread():  # only there do signals arrive
        yield lambda: False
        return
    before = {signal.SIGINT: signal.signal(signal.SIGINT, note)}
    if signal.getsignal(signal.SIGTERM) in (signal.SIG_DFL, terminated):
        before[signal.SIGTERM] = signal.signal(signal.SIGTERM, note)
    try:
        yield lambda: pressed
    finally:
        for number, handler in before.items():
            signal.signal(number, handler or signal.SIG_DFL)


_stops: list[int] = []


def stops() -> tuple[int, ...]:
    """The signals, in their order, that have ended work of this process between two steps."""
    return tuple(_stops)


def terminated(number: int, _: Any) -> None:
    """A handler of SIGTERM: ends the process with status 143, and tidies up on the way, as an error does."""
    raise SystemExit(128 + number)
