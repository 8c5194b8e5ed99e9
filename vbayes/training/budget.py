"""Limits on steps and time for training until convergence."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ..arguments.kind import Optional
from ..arguments.real import Real
from ..arguments.whole import ROW, Whole
from ..errors import BadInput

MAX_STEPS, MAX_SECONDS = 100_000, 600.0


@dataclass(frozen=True)
class Budget:
    """Limits on steps and time, whichever is reached first.

    Attributes:
        steps: Number of optimiser steps in the history. Trials of rates (some hundred steps) and evaluations of the ELBO at means (at most half as many as there are steps)
            are not counted.
        seconds: Wall-clock time including compilation, checked about ten times a second. If it is reached, the result depends on the clock.
    """

    steps: int = MAX_STEPS
    seconds: float = MAX_SECONDS

    @classmethod
    def of(cls, max_steps: int | None, max_seconds: float | None) -> Budget:
        """Replaces None by the default.

        Raises:
            BadInput: A limit is zero, or not a valid number.
        """
        steps = Optional(Whole(1, each=ROW), f"{MAX_STEPS:,}; a fit of no steps is steps=0")("max_steps", max_steps)
        seconds = Optional(Real(above=0.0, finite=False), f"{MAX_SECONDS:.0f}; a fit of no steps is steps=0")(
            "max_seconds", max_seconds
        )
        return cls(MAX_STEPS if steps is None else steps, MAX_SECONDS if seconds is None else float(seconds))


def refuse_budget(**given: Any) -> None:
    """Rejects `max_steps`, `max_seconds` and `validation` for training of a given length, on which they have no effect.

    Raises:
        BadInput: One of them is not None.
    """
    if named := " and ".join(name for name, value in given.items() if value is not None):
        raise BadInput(
            f"{named} were given with steps, epochs or estimator='auto'. They apply only to training until convergence, but the length of this fit is given. "
            "Wanted: one or the other."
        )
