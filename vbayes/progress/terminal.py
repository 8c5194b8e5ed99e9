"""Consoles for text output."""

from __future__ import annotations

import os

from rich.console import Console


class Terminal(Console):
    """Console for text and progress bars. If its output is closed, as in `vbayes list | head`, output is dropped and work continues."""

    def on_broken_pipe(self) -> None:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, self.file.fileno())
        os.close(nowhere)
