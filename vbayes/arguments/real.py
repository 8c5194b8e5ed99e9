"""Real numbers in a range."""

from __future__ import annotations

import math
from dataclasses import dataclass
from numbers import Real as AnyReal
from typing import Any

from .kind import refuse
from .said import only, word

EXACT = 2**53  # integers up to this are exact in a float


@dataclass(frozen=True)
class Real:
    """A real number: from Python or NumPy, or a tensor with one element. NaN, True and False are rejected.

    Attributes:
        least, most: Inclusive bounds.
        above, below: Exclusive bounds.
        finite: Whether infinity is rejected.
        given: An example of a valid value, as source code.
    """

    least: float = -math.inf
    most: float = math.inf
    above: float = -math.inf
    below: float = math.inf
    finite: bool = True
    given: str = "1.0"

    @property
    def words(self) -> str:
        low = (
            f"of at least {self.least:g}"
            if self.least > -math.inf
            else f"above {self.above:g}"
            if self.above > -math.inf
            else ""
        )
        high = (
            f"at most {self.most:g}"
            if self.most < math.inf
            else f"below {self.below:g}"
            if self.below < math.inf
            else ""
        )
        return (
            f"a {'finite ' * self.finite}number"
            + (f" {low}" if low else "")
            + (" and" if low and high else "")
            + (f" {high}" if high else "")
        )

    @property
    def example(self) -> str:
        return self.given

    def __call__(self, name: str, value: Any) -> Any:
        number, mend = real(value), f"{word(name)}={self.example}"
        if number is None:
            alone = real(only(value))
            mend = mend if alone is None else f"{word(name)}={self._near(alone)}"
            refuse(name, value, wanted=self.words, mend=self._unquoted(value) or mend)
        if math.isnan(number) or (self.finite and math.isinf(number)):
            refuse(name, number, got="not finite" if self.finite else "not a number", wanted=self.words, mend=mend)
        if not self._holds(number):
            mend = f"{word(name)}={self._near(number)}"
            refuse(name, number, got="out of range", wanted=self.words, mend=mend)
        return value if type(value) is int and abs(value) <= EXACT else number

    def _holds(self, number: float) -> bool:
        return (
            self.least <= number <= self.most
            and (math.isfinite(number) or not self.finite)
            and (number > self.above or self.above == -math.inf)
            and (number < self.below or self.below == math.inf)
        )

    def _near(self, number: float) -> str:
        """What may have been meant: the number, a percentage, the number without its sign, the nearest end; or else the example."""
        share = number / 100 if number > 2 and min(self.most, self.below) == 1 else number
        ends = (end for end in (self.least, self.most) if math.isfinite(end))
        nearest = min(ends, key=lambda end: abs(end - number), default=number)
        found = (each for each in (number, share, -number, nearest) if self._holds(each))
        return next((f"{each:g}" for each in found), self.example)

    def _unquoted(self, value: Any) -> str:
        try:
            return f"{self._near(float(value))}, without quotes" if isinstance(value, str) else ""
        except ValueError:
            return ""


def real(value: Any) -> float | None:
    """Converts to Python's float, if it is a number."""
    shape = getattr(value, "shape", None)
    if isinstance(value, bool) or str(getattr(value, "dtype", "")) in ("bool", "torch.bool"):
        return None
    if not isinstance(value, AnyReal) and (shape is None or tuple(shape) != ()):
        return None
    try:
        return float(value.detach() if hasattr(value, "detach") else value)
    except Exception:  # a complex number, a tensor without numbers, an integer that no float holds
        return None


POSITIVE = Real(above=0.0)
PROBABILITY = Real(least=0.0, most=1.0, given="0.5")
