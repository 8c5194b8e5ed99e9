"""Tables for the terminal."""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Sequence
from numbers import Real
from typing import TYPE_CHECKING

from rich.box import SIMPLE_HEAD
from rich.table import Table
from rich.text import Text

from .. import headings
from .card import WIDTH

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
    columns = [name for name in frame if name not in sections]
    cells = {name: [_cell(value) for value in frame[name]] for name in columns}
    words = {name: heading(str(name)) for name in columns}
    wide = sum(2 + max(map(len, [words[name], *cells[name]])) for name in columns) > WIDTH
    shown = plain_table(title="")
    if wide:
        shown.padding = (0, 0, 0, 0)
    for name in columns:
        text = _narrow(words[name], cells[name]) if wide else words[name]
        shown.add_column(Text(text), justify="right" if frame[name].dtype.kind in "fiu" else "left")
    before: tuple[object, ...] = ()
    for place, (_, row) in enumerate(frame.iterrows()):
        head = tuple(row[name] for name in sections)
        if head != before:
            named = (_section(heading(name), value) for name, value in zip(sections, head, strict=True))
            shown.add_row(Text(" · ".join(named), style="bold"))
            before = head
        # As Text, because rich reads square brackets in strings as markup.
        shown.add_row(*(Text(cells[name][place]) for name in columns))
    return shown


def _section(name: str, value: object) -> str:
    """A value as the heading of a section: a number with its name."""
    return f"{name} = {value:g}" if isinstance(value, Real) and not isinstance(value, bool) else str(value)


def _cell(value: object) -> str:
    return "–" if value != value else _three_digits(value) if isinstance(value, float) else str(value)


def _narrow(heading: str, cells: Sequence[str]) -> str:
    """A heading in lines no wider than its column's cells, or than its longest word."""
    return "\n".join(textwrap.wrap(heading, max(1, *map(len, [*cells, *heading.split()])), break_long_words=False))


def _three_digits(value: float) -> str:
    return f"{value:,.0f}" if 1000 <= abs(value) < 1e7 else f"{value:.3g}"
