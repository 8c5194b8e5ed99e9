"""What a training that is not told how far to go may cost."""

from __future__ import annotations

from dataclasses import dataclass
from numbers import Real

from ..errors import BadInput

MAX_STEPS, MAX_SECONDS = 100_000, 600.0


@dataclass(frozen=True)
class Budget:
    """At most so much, whichever comes first.

    Attributes:
        steps: Of the optimiser, and of the history. Trials of rates (some hundred steps) and looks at the ELBO of means (at most half as many as there are steps)
            come on top.
        seconds: On the clock, with all that is compiled; looked at some ten times a second. What has been decided by then hangs on the clock.
    """

    steps: int = MAX_STEPS
    seconds: float = MAX_SECONDS

    @classmethod
    def of(cls, max_steps: int | None, max_seconds: float | None) -> Budget:
        """Where None, the default.

        Raises:
            BadInput: A budget of nothing, or none at all.
        """
        steps, seconds = max_steps, max_seconds
        if steps is not None and (not isinstance(steps, int) or isinstance(steps, bool) or steps < 1):
            raise BadInput(
                f"max_steps={steps!r}. Wanted: an integer of at least 1, or None for {MAX_STEPS:,}. A fit of no steps is steps=0."
            )
        if seconds is not None and (not isinstance(seconds, Real) or isinstance(seconds, bool) or not seconds > 0):
            raise BadInput(
                f"max_seconds={seconds!r}. Wanted: a number above 0, or None for {MAX_SECONDS:.0f}. A fit of no steps is steps=0."
            )
        return cls(MAX_STEPS if steps is None else steps, MAX_SECONDS if seconds is None else float(seconds))


def refuse_budget(why: str, max_steps: int | None, max_seconds: float | None) -> None:
    """For who is told how far to go.

    Raises:
        BadInput: A budget was given all the same.
    """
    given = {"max_steps": max_steps, "max_seconds": max_seconds}
    named = " and ".join(f"{name}={value!r}" for name, value in given.items() if value is not None)
    if named:
        raise BadInput(
            f"{named}: a budget is for a fit that trains until it has converged, and {why}. Wanted: one or the other."
        )
