"""Whether training has converged, with the numbers behind it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import pandas as pd

from ..summaries.card import counted, rounded
from .history import Numbers
from .plateau import Plateau


@dataclass(frozen=True)
class Phase:
    """Steps at one learning rate.

    Attributes:
        rate: Learning rate.
        steps: Number of steps.
        elbo: ELBO at the mean of the phase's last iterates, in nats.
        gain, gain_se: Gain over the best of the earlier phases, at the same draws, and its standard error; NaN for the first phase.
    """

    rate: float
    steps: int
    elbo: float
    gain: float = math.nan
    gain_se: float = math.nan


@dataclass(frozen=True)
class Convergence:
    """Whether training has converged, and why.

    Attributes:
        converged: True or False; None if it can't be determined.
        reason: The explanation, in words.
        phases: The phases of training, if it ran until convergence.
        expected_gain: Upper bound on the gain from a further phase, in nats, from the gain of the last one and its uncertainty; NaN if not
            known.
        tolerance: Gain below which training counts as converged, in nats.
    """

    converged: bool | None
    reason: str
    phases: tuple[Phase, ...] = ()
    expected_gain: float = math.nan
    tolerance: float = math.nan

    def to_dataframe(self) -> pd.DataFrame:
        """One row for each phase: rate, steps, elbo, gain, gain_se."""
        return pd.DataFrame([asdict(phase) for phase in self.phases], columns=list(Phase.__dataclass_fields__))

    def rows(self) -> tuple[tuple[str, str], ...]:
        """Rows for a card."""
        first, _, rest = self.reason.partition(": ")
        told = (("convergence", first),)
        return (*told, ("", rest)) if rest else told

    def to_json(self) -> dict[str, Any]:
        """Plain numbers and words, for `of_json`."""
        return asdict(self)

    @classmethod
    def of_json(cls, told: Mapping[str, Any] | None) -> Convergence | None:
        """The inverse of `to_json`."""
        return None if told is None else cls(**{**told, "phases": tuple(Phase(**phase) for phase in told["phases"])})


def in_nats(value: float, rows: int) -> str:
    """A difference of ELBOs in words: per datum if each datum has its own latents.

    Args:
        value: Difference in nats, for the whole data set.
        rows: N, to state it per datum; 1 to state it for all data.
    """
    return f"{rounded(value / rows, 2)} nats" + (" per datum" if rows > 1 else "")


def of_history(elbos: Sequence[float] | Numbers, tolerance: float, rows: int = 1) -> Convergence:
    """Judges convergence from the ELBO of each step, for training of a given length.

    Args:
        elbos: ELBO of each step, in nats.
        tolerance: Gain below which it counts as none, in nats.
        rows: As for `in_nats`.
    """
    steps, found = counted(len(elbos), "step"), Plateau.of(elbos)
    if found is None:
        return Convergence(None, f"too few to tell whether {steps} were enough", tolerance=tolerance)
    gain, most = f"{in_nats(found.gain, rows)} in {found.span:,} steps", found.gain + 2 * found.noise
    if found.rises:
        return Convergence(False, f"no, {steps} were too few: it still gains {gain}", (), most, tolerance)
    known = f"less than {in_nats(max(most, 0.0), rows)} in {found.span:,} steps"
    if not found.sustained or most > tolerance:
        return Convergence(None, f"undecided after {steps}: it gains {known}", (), most, tolerance)
    return Convergence(True, f"yes, after {steps} at this rate: it gains {known}", (), most, tolerance)
