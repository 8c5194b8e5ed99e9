"""What a method hands its user, and what it is worth against the reference draws."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

MEANS = 0.1  # reference standard deviations that a mean may be off
SDS = 0.1  # parts that a standard deviation may be off
OUTCOMES = ("good", "rightly flagged", "silently bad", "falsely flagged", "failed")
FAILED = "failed"  # in place of trust, where a method broke off with an error that it did not mean


@dataclass(frozen=True)
class Found:
    """What a method hands its user.

    Attributes:
        draws: Site → (S, …), those that its verdict tells to use.
        trust: "good" or "reweight" where it says so, "bad" where it says that its draws are not to be used, "" where it says nothing.
        seconds: On the clock to its verdict, compilation included.
        drawing: Seconds for the draws, beyond.
        effective: How many independent draws from the posterior the draws are worth, by the method's own account; NaN for none.
        k_hat: Shape of the tail of its importance weights; NaN for none.
        says: In words.
    """

    draws: Mapping[str, np.ndarray]
    trust: str
    seconds: float
    drawing: float = 0.0
    effective: float = math.nan
    k_hat: float = math.nan
    says: str = ""


@dataclass(frozen=True)
class Errors:
    """Of draws, against reference draws of the same parameters.

    Attributes:
        mean: The largest error of a mean, in the reference's standard deviations.
        sd: The ratio of standard deviations that is furthest from 1.
        where: The parameter with that mean, and the one with that ratio.
    """

    mean: float = math.nan
    sd: float = math.nan
    where: tuple[str, str] = field(default=("", ""))

    @classmethod
    def of(cls, parameters: Mapping[str, np.ndarray], reference: Mapping[str, np.ndarray]) -> Errors:
        """Of (S,) draws of each parameter, against draws of the same names in any shape."""
        means, ratios = {}, {}
        for name, wanted in reference.items():
            scale = float(np.std(wanted))
            means[name] = abs(float(np.mean(parameters[name], dtype=float)) - float(np.mean(wanted))) / scale
            ratios[name] = float(np.std(parameters[name], dtype=float)) / scale
        off = {name: abs(math.log(ratio)) if ratio > 0 else math.inf for name, ratio in ratios.items()}
        worst = max(means, key=lambda n: _last(means[n])), max(off, key=lambda n: _last(off[n]))
        return cls(means[worst[0]], ratios[worst[1]], worst)

    @property
    def small(self) -> bool:
        return self.mean <= MEANS and abs(self.sd - 1) <= SDS


def _last(value: float) -> float:
    return math.inf if math.isnan(value) else value


def outcome(errors: Errors, trust: str) -> str:
    """One of `OUTCOMES`: whether the draws are right, and whether the method said that they are not."""
    if trust == FAILED:
        return FAILED
    if trust == "bad":
        return "falsely flagged" if errors.small else "rightly flagged"
    return "good" if errors.small else "silently bad"


def row(posterior: str, method: str, found: Found, errors: Errors) -> dict[str, Any]:
    """Of the table."""
    whole = found.seconds + found.drawing
    return {
        "posterior": posterior,
        "method": method,
        "mean_error": errors.mean,
        "mean_error_of": errors.where[0],
        "sd_ratio": errors.sd,
        "sd_ratio_of": errors.where[1],
        "k_hat": found.k_hat,
        "trust": found.trust or "says nothing",
        "outcome": outcome(errors, found.trust),
        "seconds": found.seconds,
        "drawing_seconds": found.drawing,
        "effective": found.effective,
        "effective_per_second": found.effective / whole if whole else math.nan,
        "says": found.says,
    }
