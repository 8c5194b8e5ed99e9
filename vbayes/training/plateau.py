"""Whether the noisy ELBO of training is still rising."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from .history import Numbers

FEWEST = 40  # steps below which there is no judgement
WIDTH = 1000  # minimum number of steps in a block, if there are enough
PART = 8  # a block is this fraction of all steps: 1 / PART
SHARE = 3e-4  # fraction of the gain since the start below which a gain counts as none
PIECES = 20  # parts of a block, whose means show autocorrelated noise
ERRORS = (
    3.0  # standard errors; with this many tests, a rise is found in pure noise in about one in two hundred trainings
)


@dataclass(frozen=True)
class Plateau:
    """The last two blocks of a history.

    Attributes:
        span: Steps from one block to the next.
        gain: Mean of the last block minus that of the previous one, in the unit of the values.
        noise: Its standard error, from differences of neighbouring values and of neighbouring twentieths of a block, so that a trend hardly counts as noise.
        rises: Whether the gain is beyond the noise and more than 3e-4 of what was gained since the start; over w steps or over 2w.
        sustained: Whether there was no such rise, now and w steps ago, with w at least a thousand steps.

    References:
        The stopping rule discussed in pymc-extras, pull request 733, for the blocks, the noise and the fraction.
    """

    span: int
    gain: float
    noise: float
    rises: bool
    sustained: bool

    @classmethod
    def of(cls, values: Sequence[float] | Numbers) -> Plateau | None:
        """The plateau of a history; None if there are too few values."""
        array = np.asarray(values, dtype=float)
        if len(array) < FEWEST:
            return None
        width = min(max(WIDTH, len(array) // PART), len(array) // 4)
        start = float(array[: max(1, width // 100)].mean())
        looks = {
            (back, span): _blocks(array[: len(array) - back], span, start)
            for back in (0, width)
            for span in (width, 2 * width)
            if back + 2 * span <= len(array)
        }
        gain, noise, _ = looks[0, 2 * width]
        rises = looks[0, width][2] or looks[0, 2 * width][2]
        sustained = width >= WIDTH and len(looks) == 4 and not any(rise for _, _, rise in looks.values())
        return cls(2 * width, gain, noise, rises, sustained)


def _blocks(array: np.ndarray[Any, Any], width: int, start: float) -> tuple[float, float, bool]:
    """The gain of the last block over the previous one, its standard error, and whether that is a rise."""
    last, before = array[-width:], array[-2 * width : -width]
    gain = float(last.mean() - before.mean())
    noise = max(_noise(array[-2 * width :], part) for part in (1, max(1, width // PIECES)))
    return gain, noise, gain > ERRORS * noise and gain > SHARE * (float(last.mean()) - start)


def _noise(array: np.ndarray[Any, Any], part: int) -> float:
    """The standard error of the difference between the halves of an array, from differences between means of neighbouring parts; a trend hardly contributes."""
    pieces = len(array) // part
    means = array[len(array) - pieces * part :].reshape(pieces, part).mean(1)
    return math.sqrt(float(np.mean(np.diff(means) ** 2)) / 2 * 4 / pieces)
