"""Progress in a log."""

from __future__ import annotations

from rich.console import Console

from .phase import Phase

FIRST = 1.0  # seconds until the first line; each pause is twice the previous one,
LONGEST = 30.0  # up to this number of seconds


class Lines:
    """Occasional lines in a log, and one at the end; none for work that takes less than a second."""

    first = FIRST

    def __init__(self, console: Console) -> None:
        self._console, self._pause = console, FIRST
        self._written: tuple[Phase, int] | None = None
        self._last: Phase | None = None

    def draw(self, phase: Phase, last: bool) -> float:
        self._last = phase
        if not last:
            self._write(phase, False)
            self._pause = min(2 * self._pause, LONGEST)
        elif self._written and self._written[0] is phase:
            self._write(phase, True)
        return self._pause

    def close(self) -> None:
        if self._written and self._last:
            self._write(self._last, True)

    def _write(self, phase: Phase, last: bool) -> None:
        if self._written != (phase, phase.done):
            line = f"{phase.what}: {phase.text(last)}"
            self._console.print(line, markup=False, highlight=False, soft_wrap=True)
            self._written = phase, phase.done
