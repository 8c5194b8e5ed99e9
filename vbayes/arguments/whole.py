"""Integers: counts, lengths, indices."""

from __future__ import annotations

import math
import operator
from dataclasses import dataclass
from typing import Any

from .kind import refuse
from .memory import gigabytes, require_memory
from .said import only, said

MOST = 2**24
"""Of what is drawn and averaged over: single precision counts no further, and a mean's standard error is then 1/4096 of a standard deviation."""
ROW = 80  # bytes of one step in a history: five numbers, and as many again while its array grows
EACH = 1024  # minimum number of bytes for a draw, in the smallest possible pair


@dataclass(frozen=True)
class Whole:
    """An integer: from Python or NumPy, or a tensor with one element. True and False are rejected.

    Attributes:
        least, most: Inclusive bounds; None if unbounded.
        drawn: Whether it counts draws, of which there may be at most `MOST`, to limit memory.
        each: Bytes that each unit permanently takes.
    """

    least: int | None = 1
    most: int | None = None
    drawn: bool = False
    each: int = 0

    @property
    def words(self) -> str:
        low, high = self.least, self.most
        if low is None:
            return "an integer"
        return f"an integer of at least {low}" if high is None else f"an integer of at least {low} and at most {high:,}"

    @property
    def example(self) -> str:
        return str(self.least or 0)

    def __call__(self, name: str, value: Any) -> int:
        number, word = integer(value), name.split("(")[-1]
        if number is None:
            refuse(name, value, got=self._what(value), wanted=self.words, mend=f"{word}={self._near(value)}")
        if self.least is not None and number < self.least:
            refuse(
                name,
                number,
                got=f"below {self.least}",
                wanted=self.words,
                mend=f"{word}={self.example}, or more",
            )
        if self.drawn and number > MOST:
            got = f"more than fits in memory: each takes at least {EACH} bytes, {gigabytes(number * EACH)} in total"
            refuse(name, number, got=got, wanted=f"{self.words}, and at most {MOST:,}", mend=f"{word}={MOST}, or fewer")
        require_memory(number * self.each, said(name, number), mend="fewer of them")
        if self.most is not None and number > self.most:
            refuse(
                name,
                number,
                got=f"above {self.most:,}",
                wanted=self.words,
                mend=f"{word}={self.most}, or less",
            )
        return number

    def _what(self, value: Any) -> str | None:
        return "not an integer" if isinstance(value, float) and value != value // 1 else None

    def _near(self, value: Any) -> str:
        """A value that may have been meant."""
        try:
            number = float(value) if isinstance(value, (str, float)) else float(integer(only(value)))  # type: ignore[arg-type]
        except (OverflowError, TypeError, ValueError):
            number = math.nan
        if not math.isfinite(number) or abs(number) > 2**53:
            return self.example
        near = math.ceil(number) if self.least is None else max(math.ceil(number), self.least)
        most = MOST if self.drawn else self.most
        near = near if most is None else min(near, most)
        return f"{near}" + (", without quotes" if isinstance(value, str) else "")


def integer(value: Any) -> int | None:
    """Converts to Python's int, if it is an integer."""
    if isinstance(value, bool) or str(getattr(value, "dtype", "")) in ("bool", "torch.bool"):
        return None
    try:
        return operator.index(value)
    except Exception:  # anything that a user's class raises means that it is not an integer
        return None


SEED = Whole(0)
"""A seed of random numbers: any non-negative integer."""
