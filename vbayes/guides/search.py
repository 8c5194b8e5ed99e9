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
        """Method, iterations and time in words."""
        return f"by {self.how}, {counted(self.iterations, 'iteration')}, {rounded(self.seconds, 2)} s"

    def rows(self, total: int, known: tuple[float, float] | None = None) -> tuple[tuple[str, str], ...]:
        """Rows for the card of a fit without steps.

        Args:
            total: Number of data, N.
            known: ELBO in nats and its standard error, if known from more draws.
        """
        value, se = known or (self.value, math.nan)
        said = "–" if math.isnan(value) else f"{with_error(value / total, se / total)} nats per datum"
        return ("trained", "0 steps"), ("found", self.words()), (self.name, said)
