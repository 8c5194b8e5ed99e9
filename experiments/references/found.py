"""A method's results, and how they compare with the reference draws."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

MEANS = 0.1  # largest acceptable error of a mean, in reference standard deviations
SDS = 0.1  # largest acceptable relative error of a standard deviation
OUTCOMES = ("good", "rightly flagged", "silently bad", "falsely flagged", "failed")
FAILED = "failed"  # value of trust for a method that stopped with an unintended error


@dataclass(frozen=True)
class Found:
    """A method's results.

    Attributes:
        draws: The draws that the method's verdict recommends, (S, …) by site.
        trust: "good" or "reweight" if the method says so, "bad" if it says not to use its draws, "" if it gives no verdict.
        seconds: Elapsed seconds up to the verdict, including compilation.
        drawing: Further seconds to make the draws.
        effective: The method's own estimate of its effective sample size; NaN if it makes none.
        k_hat: Pareto k̂, the tail shape of its importance weights; NaN if it has none.
        says: The verdict in words.
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
    """Errors of draws against reference draws of the same parameters.

    Attributes:
        mean: The largest error of a mean, in the reference's standard deviations.
        sd: The ratio of standard deviations furthest from 1.
        where: The parameters with that mean and with that ratio.
    """

    mean: float = math.nan
    sd: float = math.nan
    where: tuple[str, str] = field(default=("", ""))

    @classmethod
    def of(cls, parameters: Mapping[str, np.ndarray], reference: Mapping[str, np.ndarray]) -> Errors:
        """Compares (S,) draws of each parameter with reference draws of the same names, in any shape."""
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
    """One of `OUTCOMES`: whether the draws are accurate, and whether the method said that they were not."""
    if trust == FAILED:
        return FAILED
    if trust == "bad":
        return "falsely flagged" if errors.small else "rightly flagged"
    return "good" if errors.small else "silently bad"


def row(posterior: str, method: str, found: Found, errors: Errors) -> dict[str, Any]:
    """A row of the table."""
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
