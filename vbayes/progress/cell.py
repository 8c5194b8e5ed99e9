"""Progress in a notebook."""

from __future__ import annotations

import html
from typing import Any

from .phase import Phase

REFRESH = 0.1  # minimum number of seconds between updates


class Cell:
    """A line that changes in the output of a notebook cell. It uses only IPython, so it needs no widgets, and remains in a saved notebook."""

    first = 0.0

    def __init__(self) -> None:
        self._shown: Phase | None = None
        self._handle: Any = None

    def draw(self, phase: Phase, last: bool) -> float:
        from IPython.display import display

        text = phase.text(last)
        far = f'value="{phase.done}" max="{phase.total or max(phase.done, 1)}"' if phase.total or last else ""
        bar = f'<progress {far} style="width: 12em; vertical-align: middle"></progress>'
        content = {
            "text/plain": f"{phase.what}: {text}",
            "text/html": f"<div><span>{html.escape(phase.what)}</span> {bar} <span>{html.escape(text)}</span></div>",
        }
        if phase is self._shown:
            self._handle.update(content, raw=True)
        else:
            self._handle, self._shown = display(content, raw=True, display_id=True), phase
        return REFRESH

    def close(self) -> None:
        """Leaves the output as it is."""
