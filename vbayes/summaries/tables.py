"""What the terminal shows: rich tables."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from rich.box import SIMPLE_HEAD
from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    import pandas as pd


def plain_table(*headings: str, title: str) -> Table:
    """A table without frames, which fits into 80 columns where one with frames would not."""
    return Table(*headings, title=title, title_justify="left", box=SIMPLE_HEAD, padding=(0, 1, 0, 0))


def table(frame: pd.DataFrame, sections: Sequence[str] = ()) -> Table:
    """Any data frame: words to the left, numbers with three digits to the right.

    Args:
        sections: Columns that head a section, instead of standing in each of its rows.
    """
    shown = plain_table(title="")
    columns = [name for name in frame if name not in sections]
    for name in columns:
        number = frame[name].dtype.kind in "fiu"
        shown.add_column(Text(str(name).replace("_", " ")), justify="right" if number else "left")
    before: tuple[object, ...] = ()
    for _, row in frame.iterrows():
        head = tuple(row[name] for name in sections)
        if head != before:
            shown.add_row(Text(" · ".join(map(str, head)), style="bold"))
            before = head
        cells = [row[name] for name in columns]
        # Text, for square brackets in anything else are rich's own.
        shown.add_row(*(Text("–" if v != v else _three_digits(v) if isinstance(v, float) else str(v)) for v in cells))
    return shown


def _three_digits(value: float) -> str:
    return f"{value:,.0f}" if 1000 <= abs(value) < 1e7 else f"{value:.3g}"
