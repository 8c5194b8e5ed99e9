"""How a guide chosen by name found its start, before the first step."""

from __future__ import annotations

import math
from dataclasses import dataclass

from ..summaries.card import counted, rounded, with_error


@dataclass(frozen=True)
class Search:
    """How a guide found its start.

    Attributes:
        how: Name of the method.
        iterations: Number of iterations.
        seconds: Total time.
        value: Value of the objective there, in nats, from the draws of the search; NaN if not evaluated.
        name: Name of the objective.
    """

    how: str
    iterations: int
    seconds: float
    value: float
    name: str = "ELBO"

    def words(self) -> str:
        """How, and how far."""
        return f"by {self.how}, {counted(self.iterations, 'iteration')}, {rounded(self.seconds, 2)} s"

    def rows(self, total: int, known: tuple[float, float] | None = None) -> tuple[tuple[str, str], ...]:
        """Of the card of a fit of no steps.

        Args:
            total: N, of the data.
            known: Nats and their standard error, where more draws have said it.
        """
        value, se = known or (self.value, math.nan)
        said = "–" if math.isnan(value) else f"{with_error(value / total, se / total)} nats per datum"
        return ("trained", "0 steps"), ("found", self.words()), (self.name, said)
