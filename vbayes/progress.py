"""Long work: a live bar, and Ctrl-C at a good moment."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

REFRESH = 0.1  # seconds between redraws; more often costs more than it shows


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
    with Progress(*columns, auto_refresh=False) as progress:
        task = progress.add_task(what, total=total, note="")
        shown = 0.0

        def advance(done: int, note: Callable[[], str]) -> None:
            nonlocal shown
            if done >= total or time.monotonic() - shown > REFRESH:
                shown = time.monotonic()
                progress.update(task, completed=done, note=note(), refresh=True)

        yield advance


@contextmanager
def between_steps() -> Iterator[Callable[[], bool]]:
    """Ctrl-C waits for the end of a step, so that parameters, optimiser and history stay together; a second one does not."""
    pressed = False

    def note(*_: Any) -> None:
        nonlocal pressed
        if pressed:
            raise KeyboardInterrupt
        pressed = True

    if threading.current_thread() is not threading.main_thread():  # only there do signals arrive
        yield lambda: False
        return
    before = signal.signal(signal.SIGINT, note)
    try:
        yield lambda: pressed
    finally:
        signal.signal(signal.SIGINT, before or signal.SIG_DFL)
