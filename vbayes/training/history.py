"""The history of a fit: one row per step, in an array."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, overload

import numpy as np
import pandas as pd

Row = tuple[int, int, float, float, float]
Numbers = np.ndarray[Any, np.dtype[np.float64]]

COLUMNS = ("step", "epoch", "elbo", "elbo_per_datum", "seconds")
WHOLE = COLUMNS[:2]  # they count, and floats of 64 bits count to 2⁵³
TOGETHER = 4096  # rows that become tuples together, for one after the other would take longer


class History(Sequence[Row]):
    """Rows stored as an array, and returned as tuples: 40 bytes per step, where tuples take 200.

    Args:
        table: (n, 5) in the order of `COLUMNS`. It is not copied, and must not change.
    """

    def __init__(self, table: Numbers | None = None) -> None:
        self.table = np.empty((0, len(COLUMNS))) if table is None else table[:]
        self.table.flags.writeable = False

    @classmethod
    def of(cls, rows: Iterable[Row]) -> History:
        """Of rows that may be one already."""
        return rows if isinstance(rows, History) else cls(np.array(list(rows), dtype=float).reshape(-1, len(COLUMNS)))

    @property
    def elbo(self) -> Numbers:
        """(n,) nats, of the whole data."""
        return self.table[:, 2]

    @property
    def elbo_per_datum(self) -> Numbers:
        """(n,) nats."""
        return self.table[:, 3]

    def to_dataframe(self) -> pd.DataFrame:
        """One row per step."""
        named = zip(COLUMNS, self.table.T, strict=True)
        return pd.DataFrame({name: each.astype(np.int64) if name in WHOLE else each.copy() for name, each in named})

    def __len__(self) -> int:
        return len(self.table)

    @overload
    def __getitem__(self, index: int) -> Row: ...
    @overload
    def __getitem__(self, index: slice) -> History: ...
    def __getitem__(self, index: int | slice) -> Row | History:
        return History(self.table[index]) if isinstance(index, slice) else _row(self.table[index].tolist())

    def __iter__(self) -> Iterator[Row]:
        starts = range(0, len(self), TOGETHER)
        return (_row(each) for start in starts for each in self.table[start : start + TOGETHER].tolist())

    def __eq__(self, other: object) -> bool:
        if isinstance(other, History):
            return np.array_equal(self.table, other.table)
        return tuple(self) == tuple(other) if isinstance(other, (list, tuple)) else NotImplemented

    __hash__ = None  # type: ignore[assignment]  # what is equal to a tuple would have to have its hash

    def __repr__(self) -> str:
        return f"History({list(self)})"


class Growing:
    """A history that a run appends to. Histories returned earlier don't change, and share its memory.

    Args:
        before: The rows that are there.
    """

    def __init__(self, before: History) -> None:
        self._room, self._count = before.table, len(before)

    def add(self, table: Numbers) -> None:
        """More rows."""
        count = self._count + len(table)
        if count > len(self._room):
            # Memory is taken where it is written to, and not before.
            room = np.empty((max(count, 2 * len(self._room)), len(COLUMNS)))
            room[: self._count] = self._room[: self._count]
            self._room = room
        if len(table):
            self._room[self._count : count] = table
        self._count = count

    def __len__(self) -> int:
        return self._count

    @property
    def history(self) -> History:
        """All of it, as of now."""
        return History(self._room[: self._count])


def _row(numbers: list[float]) -> Row:
    step, epoch, elbo, each, seconds = numbers
    return int(step), int(epoch), elbo, each, seconds


def trend(rows: History, bound: str = "ELBO") -> str:
    """The ELBO, or whatever bound is followed, per datum and its trend: the mean of the last tenth of the steps against the tenth before."""
    width = max(1, min(len(rows) // 10, 1000))
    each = rows.elbo_per_datum
    recent = float(each[-width:].mean())
    if len(rows) < 2 * width:
        return f"{bound} per datum {recent:.4g}"
    change = recent - float(each[-2 * width : -width].mean())
    return (
        f"{bound} per datum {recent:.4g} {'↑' if change > 0 else '↓'} {change:+.2g} in {width} step{'s' * (width > 1)}"
    )
