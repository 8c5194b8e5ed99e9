"""How a fit came to be what it is, in words."""

from __future__ import annotations

from dataclasses import dataclass

from ..summaries.card import rounded


@dataclass(frozen=True)
class Training:
    """How a fit came to be what it is.

    Attributes:
        steps, seconds: That it took.
        converged: None where nobody has tested it.
        reason: Why it is said to have converged, or not.
        found: How a guide by a word has come to its place before the first step, in words; empty where it has not, or where steps were taken.
    """

    steps: int
    seconds: float
    converged: bool | None = None
    reason: str = ""
    found: str = ""

    def short(self) -> str:
        """For a card."""
        known = {None: "not tested for convergence", True: "converged", False: "not converged"}
        if self.found and not self.steps:
            return f"{self.found}" + (", converged" if self.converged else "")
        return f"{self.steps:,} step{'s' * (self.steps != 1)}, {rounded(self.seconds, 2)} s, {known[self.converged]}"

    def words(self) -> str:
        """In a sentence."""
        if not self.steps and self.converged:
            return f"Converged: {self.reason}."
        if not self.steps and self.found:
            return f"Found {self.found}, and not trained."
        if " after " in self.reason.split(":")[0]:  # a training that was not told how far says it all itself
            return f"{self.reason[0].upper()}{self.reason[1:]}."
        took = f"after {self.steps:,} step{'s' * (self.steps != 1)} in {rounded(self.seconds, 2)} s"
        why = f" ({self.reason})" if self.reason else ""
        if self.converged is None:
            return f"Stopped {took}; whether it had converged, nothing has tested{why}."
        return f"{'Converged' if self.converged else 'Not converged'} {took}{why}."
