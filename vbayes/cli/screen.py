"""Terminal output of the commands."""

from __future__ import annotations

from pathlib import Path

from rich.markup import escape

from ..progress import Terminal

console = Terminal()


def point_to(folder: Path) -> None:
    """Prints where a run's page is."""
    page = escape(str(folder / "report.html"))
    console.print(f"Open [b]{page}[/b]; figures, tables and draws are in the same folder.", soft_wrap=True)
