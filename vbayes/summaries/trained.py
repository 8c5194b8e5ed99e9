"""How a fit was trained, in words."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from .card import rounded
from .history import End

LEAST = 5  # minimum number of steps at the end for detecting a loss
NATS = 1.0  # nats per datum; a smaller loss may be due to minibatches


def lost(values: np.ndarray) -> float:
    """The loss in nats from start to end of training; 0 if the end is not clearly worse.

    It is clearly worse if every value of the last tenth is below the first value, and their mean by more than two of their standard deviations plus one nat.

    Args:
        values: (steps,) ELBO per datum.
    """
    end = End.of(values)
    last = values[-end.steps :] if end.steps else values
    if len(last) < LEAST or not np.isfinite(last).all():
        return 0.0
    gap = float(values[0] - end.mean)
    return gap if last.max() < values[0] and gap > max(2 * float(last.std(ddof=1)), NATS) else 0.0


@dataclass(frozen=True)
class Training:
    """How a fit was trained.

    Attributes:
        steps, seconds: Length of training.
        converged: Whether it has converged; None if that was not tested.
        reason: Why it is considered converged, or not.
        lost: Loss in nats per datum from start to end, or 0; see `lost`.
        bound: Name of the bound.
        infinite_from: The k̂ of the weights from which on this bound is infinite.
        found: How a guide chosen by name found its start before the first step; empty if it did not, or if steps were taken.
    """

    steps: int
    seconds: float
    converged: bool | None = None
    reason: str = ""
    found: str = ""
    lost: float = 0.0
    bound: str = "ELBO"
    infinite_from: float = math.inf

    def short(self) -> str:
        """A short description for a card."""
        start, after, _ = self.reason.split(":")[0].partition(" after ")
        untold = start if after else "not tested for convergence"  # "settled", "undecided", "stopped by Ctrl-C"
        known = {None: untold, True: "converged", False: "not converged"}
        if self.found and not self.steps:
            return f"{self.found}" + (", converged" if self.converged else "")
        return f"{self.steps:,} step{'s' * (self.steps != 1)}, {rounded(self.seconds, 2)} s, {known[self.converged]}{', ruined' if self.lost else ''}"

    def words(self) -> str:
        """A description in a sentence or two."""
        if self.lost:
            ruined = f"Ruined: the {self.bound} ends {rounded(self.lost, 3)} nats per datum below where training began, so this fit is worse than no training."
            return f"{ruined} {self._how_far()}"
        return self._how_far()

    def _how_far(self) -> str:
        if not self.steps and self.converged:
            return f"Converged: {self.reason}."
        if not self.steps and self.found:
            return f"Found {self.found}; not trained."
        if " after " in self.reason.split(":")[0]:  # the reason of training until convergence is complete by itself
            return f"{self.reason[0].upper()}{self.reason[1:]}."
        took = f"after {self.steps:,} step{'s' * (self.steps != 1)} in {rounded(self.seconds, 2)} s"
        why = f" ({self.reason})" if self.reason else ""
        if self.converged is None:
            return f"Stopped {took}; convergence was not tested{why}."
        return f"{'Converged' if self.converged else 'Not converged'} {took}{why}."
