"""Tables for the terminal."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from rich.box import SIMPLE_HEAD
from rich.table import Table
from rich.text import Text

from .. import headings

if TYPE_CHECKING:
    import pandas as pd


def plain_table(*headings: str, title: str) -> Table:
    """A table without vertical lines, to fit into 80 columns."""
    return Table(*headings, title=title, title_justify="left", box=SIMPLE_HEAD, padding=(0, 1, 0, 0))


def table(
    frame: pd.DataFrame, sections: Sequence[str] = (), *, heading: Callable[[str], str] = headings.heading
) -> Table:
    """Any data frame: text is left-aligned, numbers are right-aligned and have three digits.

    Args:
        sections: Columns shown as headings of sections, instead of in each row.
        heading: Function from the name of a column to its heading.
    """
    shown = plain_table(title="")
    columns = [name for name in frame if name not in sections]
    for name in columns:
        number = frame[name].dtype.kind in "fiu"
        shown.add_column(Text(heading(str(name))), justify="right" if number else "left")
    before: tuple[object, ...] = ()
    for _, row in frame.iterrows():
        head = tuple(row[name] for name in sections)
        if head != before:
            shown.add_row(Text(" · ".join(map(str, head)), style="bold"))
            before = head
        cells = [row[name] for name in columns]
        # As Text, because rich reads square brackets in strings as markup.
        shown.add_row(*(Text("–" if v != v else _three_digits(v) if isinstance(v, float) else str(v)) for v in cells))
    return shown


def _three_digits(value: float) -> str:
    return f"{value:,.0f}" if 1000 <= abs(value) < 1e7 else f"{value:.3g}"
