"""Where words go."""

from __future__ import annotations

import os

from rich.console import Console


class Terminal(Console):
    """Where words and bars go. Where nobody reads them any more, as in `vbayes list | head`, they go nowhere, and work goes on."""

    def on_broken_pipe(self) -> None:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, self.file.fileno())
        os.close(nowhere)
