"""Whether the noisy ELBO of training is still rising."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from .history import Numbers

FEWEST = 40  # steps below which nothing is said
WIDTH = 1000  # steps of a block, at least, where there are enough of them
PART = 8  # of all steps, a block is so large a part
SHARE = 3e-4  # of the gain since the start: what is less is nothing
PIECES = 20  # of a block, by whose means noise is seen that neighbours share
ERRORS = 3.0  # standard errors: as many looks as here see a rise in pure noise about once in two hundred trainings


@dataclass(frozen=True)
class Plateau:
    """The last two blocks of a history.

    Attributes:
        span: Steps from one to the next.
        gain: What the last one's mean is above that of the one before, in the unit of the values.
        noise: Its standard error, by the differences of neighbours, single ones and in twentieths of a block: a trend hardly counts as noise.
        rises: Whether the gain is beyond the noise and more than 3e-4 of what was gained since the start; over w steps or over 2w.
        sustained: Whether there was no such rise, now and w steps ago, with w of a thousand steps or more.

    References:
        The blocks, the noise and the share: the stopping rule in the thread of pymc-extras, pull request 733.
    """

    span: int
    gain: float
    noise: float
    rises: bool
    sustained: bool

    @classmethod
    def of(cls, values: Sequence[float] | Numbers) -> Plateau | None:
        """None where there are too few values."""
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
    """The gain of the last block on the one before, its standard error, and whether that is a rise."""
    last, before = array[-width:], array[-2 * width : -width]
    gain = float(last.mean() - before.mean())
    noise = max(_noise(array[-2 * width :], part) for part in (1, max(1, width // PIECES)))
    return gain, noise, gain > ERRORS * noise and gain > SHARE * (float(last.mean()) - start)


def _noise(array: np.ndarray[Any, Any], part: int) -> float:
    """The standard error of the difference of an array's halves, by the differences of the means of neighbouring parts: a trend hardly counts."""
    pieces = len(array) // part
    means = array[len(array) - pieces * part :].reshape(pieces, part).mean(1)
    return math.sqrt(float(np.mean(np.diff(means) ** 2)) / 2 * 4 / pieces)
