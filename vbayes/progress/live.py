"""Progress in a terminal."""

from __future__ import annotations

import sys
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn
from rich.table import Column

from .phase import Phase

REFRESH = 0.1  # minimum number of seconds between redraws


class Live:
    """A moving bar in a terminal. What the program prints meanwhile appears above it."""

    first = 0.0

    def __init__(self, console: Console) -> None:
        text = TextColumn(
            "{task.fields[text]}", markup=False, table_column=Column(no_wrap=True, overflow="ellipsis", ratio=1)
        )
        name = TextColumn("{task.description}", markup=False, table_column=Column(no_wrap=True))
        printed = sys.stdout.isatty()  # redirected output stays redirected
        self._progress = Progress(
            name, BarColumn(bar_width=16), text, console=console, auto_refresh=False, redirect_stdout=printed, expand=True
        )  # fmt: skip
        self._task: Any = None
        self._shown: Phase | None = None

    def draw(self, phase: Phase, last: bool) -> float:
        total = max(phase.done, 1) if phase.total is None and last else phase.total
        now: dict[str, Any] = {"completed": phase.done, "total": total, "text": phase.text(last)}
        if self._shown is None:
            self._progress.start()
        if phase is not self._shown:  # redraws the bar
            self._task, self._shown = self._progress.add_task(phase.what, **now), phase
        else:
            self._progress.update(self._task, description=phase.what, refresh=True, **now)
        return REFRESH

    def close(self) -> None:
        if self._shown:
            self._progress.stop()
