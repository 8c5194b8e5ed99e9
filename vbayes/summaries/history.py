"""The end of a training history."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from .card import counted, rounded, with_error

TENTH = 10  # the end is one part in ten of the steps, and is divided into ten parts


@dataclass(frozen=True)
class End:
    """The last tenth of a history, and its gain over the tenth before.

    Attributes:
        steps: Number of steps in it.
        mean, se: Mean of its values and the standard error, treating steps as independent; NaN if there are too few.
        change, change_se: Change from the mean of as many steps before, and its standard error; NaN if there are none.
    """

    steps: int
    mean: float
    se: float
    change: float
    change_se: float

    @classmethod
    def of(cls, values: Sequence[float] | np.ndarray[Any, np.dtype[np.float64]]) -> End:
        """The end of a history, from the values of all steps."""
        steps = max(1, len(values) // TENTH)
        mean, se = _mean(values[-steps:])
        before, before_se = _mean(values[-2 * steps : -steps] if len(values) >= 2 * steps else ())
        return cls(min(steps, len(values)), mean, se, mean - before, math.hypot(se, before_se))

    def rows(self, name: str) -> tuple[tuple[str, str], ...]:
        """Rows of a card, for values in nats per datum."""
        if not self.steps:
            return ((name, "–"),)
        last = f"the last {self.steps:,} steps" if self.steps > 1 else "the last step"
        rows = ((name, f"{with_error(self.mean, self.se)} nats per datum, over {last}"),)
        if math.isnan(self.change):
            return rows
        sign = "+" if self.change >= 0 else ""
        error = "" if math.isnan(self.change_se) else f" ± {rounded(self.change_se, 2)}"
        return (*rows, ("trend", f"{sign}{rounded(self.change, 3)}{error} over as many steps before"))


def trained(
    steps: int, epochs: int, rows: int, *, batch_size: int | None, seconds: float, interrupted: bool
) -> tuple[str, str]:
    """The length of a training, as the row of a card.

    Args:
        steps, epochs: Length of training.
        rows: Number of rows, N.
        batch_size: Rows in a minibatch, M; None for all rows.
        seconds: Duration in seconds.
        interrupted: Whether it was stopped early.
    """
    words = f"{counted(steps, 'step')}, {counted(epochs, 'epoch')} of {counted(rows, 'row')}"
    words += f" in batches of {batch_size:,}" if batch_size else ""
    return "trained", f"{words}, {rounded(seconds, 3)} s" + (", stopped early" if interrupted else "")


def _mean(values: Any) -> tuple[float, float]:
    array = np.asarray(values, dtype=float)
    if not len(array):
        return math.nan, math.nan
    se = float(array.std(ddof=1)) / math.sqrt(len(array)) if len(array) > 1 else math.nan
    return float(array.mean()), se
