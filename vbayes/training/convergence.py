"""Whether a training has converged, in numbers and in words."""

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
    """Steps at one rate.

    Attributes:
        rate: Learning rate.
        steps: How many.
        elbo: At the mean of the phase's last iterates, nats.
        gain, gain_se: That much above the best of the phases before, at the same draws, and its standard error; NaN for the first.
    """

    rate: float
    steps: int
    elbo: float
    gain: float = math.nan
    gain_se: float = math.nan


@dataclass(frozen=True)
class Convergence:
    """Whether a training has converged.

    Attributes:
        converged: None where nobody can tell.
        reason: In words.
        phases: What it did, where it was not told how far to go.
        expected_gain: What a further phase would gain at most, nats, by what the last one has gained and by how surely that is known; NaN where it is not
            known.
        tolerance: Below which that counts for nothing, nats.
    """

    converged: bool | None
    reason: str
    phases: tuple[Phase, ...] = ()
    expected_gain: float = math.nan
    tolerance: float = math.nan

    def to_dataframe(self) -> pd.DataFrame:
        """A row for each phase: rate, steps, elbo, gain, gain_se."""
        return pd.DataFrame([asdict(phase) for phase in self.phases], columns=list(Phase.__dataclass_fields__))

    def rows(self) -> tuple[tuple[str, str], ...]:
        """Of a card."""
        first, _, rest = self.reason.partition(": ")
        told = (("convergence", first),)
        return (*told, ("", rest)) if rest else told

    def to_json(self) -> dict[str, Any]:
        """Plain numbers and words, for `of_json`."""
        return asdict(self)

    @classmethod
    def of_json(cls, told: Mapping[str, Any] | None) -> Convergence | None:
        """What `to_json` made."""
        return None if told is None else cls(**{**told, "phases": tuple(Phase(**phase) for phase in told["phases"])})


def in_nats(value: float, rows: int) -> str:
    """A difference of ELBOs in words: a datum's share of it where there are so many rows that each has its own latents.

    Args:
        value: Nats, for the whole data set.
        rows: N, to name the share of one; 1 for all.
    """
    return f"{rounded(value / rows, 2)} nats" + (" a datum" if rows > 1 else "")


def of_history(elbos: Sequence[float] | Numbers, tolerance: float, rows: int = 1) -> Convergence:
    """What the ELBO of each step says of a training that was told how far to go.

    Args:
        elbos: Nats.
        tolerance: What counts for nothing, nats.
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
