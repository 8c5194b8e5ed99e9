"""Short summaries of objects: as text in a terminal, as a table in a notebook."""

from __future__ import annotations

import html
import math
from abc import ABC, abstractmethod
from collections.abc import Iterable
from dataclasses import dataclass

WIDTH = 80  # width of a terminal in columns


@dataclass(frozen=True)
class Card:
    """A title and a few numbers with their names.

    Attributes:
        title: The class, and the names of pair and data.
        rows: (name, value as text).
    """

    title: str
    rows: tuple[tuple[str, str], ...]

    def text(self) -> str:
        """The card as text: one line for the title and one for each row, truncated to the width of a terminal."""
        width = max((len(name) for name, _ in self.rows), default=0)
        lines = [_one_line(self.title)]
        lines += [f"  {name:<{width}}  {_one_line(value)}" for name, value in self.rows]
        return "\n".join(line if len(line) <= WIDTH else line[: WIDTH - 1] + "…" for line in lines)

    def html(self) -> str:
        """The card as an HTML table, with names escaped."""
        rows = "".join(
            f'<tr><th style="text-align: left">{html.escape(name)}</th>'
            f'<td style="text-align: left">{html.escape(_one_line(value))}</td></tr>'
            for name, value in self.rows
        )
        title = html.escape(_one_line(self.title))
        return f'<table><caption style="text-align: left">{title}</caption><tbody>{rows}</tbody></table>'


class Displayable(ABC):
    """Base of objects shown as a card, by `repr` and in notebooks. Dataclasses of this kind are declared with `repr=False`."""

    @abstractmethod
    def card(self) -> Card:
        """A short summary of the object."""

    def __repr__(self) -> str:
        return self.card().text()

    def _repr_html_(self) -> str:
        return self.card().html()


def rounded(value: float, digits: int = 5) -> str:
    """Formats a number with the given number of significant digits, keeping all integer digits below ten million; a dash for NaN."""
    if math.isnan(value):
        return "–"
    near = abs(float(f"{value:.{digits}g}"))  # 999.96 becomes 1,000, not 1e+03
    return f"{value:,.0f}" if 10**digits <= near < 1e7 else f"{value:,.{digits}g}"


def with_error(value: float, error: float, digits: int = 5) -> str:
    """Formats a number with its error, `-1.23 ± 0.04`; without the error if it is NaN."""
    return rounded(value, digits) + ("" if math.isnan(value) or math.isnan(error) else f" ± {rounded(error, 2)}")


def counted(how_many: int, what: str) -> str:
    """`1 step`, `1,000 steps`."""
    return f"{how_many:,} {what}{'' if how_many == 1 else 's'}"


def first_few(names: Iterable[str], most: int = 4) -> str:
    """The first few names, and how many more there are."""
    every = list(names)
    left = len(every) - most
    return ", ".join(every[:most]) + (f" and {left} more" if left > 0 else "") if every else "–"


def _one_line(text: str) -> str:
    return " ".join(text.split())
