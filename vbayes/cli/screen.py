"""Where the commands speak."""

from __future__ import annotations

from pathlib import Path

from rich.markup import escape

from ..progress import Terminal

console = Terminal()


def point_to(folder: Path) -> None:
    """Says where a run's page is."""
    page = escape(str(folder / "report.html"))
    console.print(f"Open [b]{page}[/b]; figures, tables and draws lie beside it.", soft_wrap=True)
