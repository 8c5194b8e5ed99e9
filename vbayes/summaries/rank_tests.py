"""Tests of the ranks of true values among draws, which are uniform if the posterior is exact."""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats

from .card import first_few, rounded

LEVEL = 0.01  # probability of any false alarm if everything is calibrated
PER_BIN = 10  # minimum expected number of ranks in a bin for a chi-squared test (Cochran 1954: 5)
MOST_BINS = 20
TESTS = ("bias_p", "spread_p", "shape_p")
SAID = 4  # maximum number of parameters named in the verdict


def rank_tests(ranks: Mapping[str, Any], draws: int) -> pd.DataFrame:
    """Tests calibration for each parameter, using the normal scores s = Φ⁻¹((r + ½) / (S + 1)) of its ranks.

    If q is Gaussian, s is the number of q's standard deviations by which the true value lies above q's mean. If q is calibrated, ranks are uniform, and s has mean 0
    and a variance just below 1, which is known exactly.

    Args:
        ranks: Parameter → (R,) ranks of the true value among S draws, 0 to S.
        draws: Number of draws, S.

    Returns:
        A table with parameter; bias, bias_se (in standard deviations of q, positive if q is too high), bias_p (t test); spread, spread_se (spread of the true values
        relative to q: above 1 if q is too narrow), spread_p (chi-squared test of a variance); shape_p (chi-squared test of a flat
        histogram; NaN for fewer than 20 ranks); said, the deviations that are significant at level `LEVEL` over all tests (Bonferroni).
    """
    scores = stats.norm.ppf((np.arange(draws + 1) + 0.5) / (draws + 1))
    usual = float(np.mean(scores**2))
    rows = [_row(name, np.asarray(values), scores, usual) for name, values in ranks.items()]
    table = pd.DataFrame(rows)
    made = int(table[[*TESTS]].notna().sum().sum())
    table["said"] = [_said(row, LEVEL / max(made, 1)) for row in table.itertuples()]
    return table


def _row(name: str, ranks: np.ndarray, scores: np.ndarray, usual: float) -> dict[str, Any]:
    own, count = scores[ranks], len(ranks)
    mean, variance = float(own.mean()), float(own.var(ddof=1))
    error = math.sqrt(variance / count)
    t = abs(mean) / error if error else math.inf
    tails = stats.chi2.cdf((count - 1) * variance / usual, count - 1)
    spread = math.sqrt(variance / usual)
    fourth = float(np.mean((own - mean) ** 4))
    of_variance = math.sqrt(max(fourth - variance**2, 0.0) / count)
    return {
        "parameter": name,
        "bias": -mean,
        "bias_se": error,
        "bias_p": float(2 * stats.t.sf(t, count - 1)),
        "spread": spread,
        "spread_se": of_variance / (2 * math.sqrt(variance * usual)) if variance else 0.0,
        "spread_p": float(min(1.0, 2 * min(tails, 1 - tails))),
        "shape_p": _flat(ranks, len(scores)),
    }


def _flat(ranks: np.ndarray, values: int) -> float:
    """p-value of a chi-squared test that all values are equally frequent."""
    bins = min(MOST_BINS, values, len(ranks) // PER_BIN)
    if bins < 2:
        return math.nan
    edges = histogram_edges(values - 1, bins)
    seen, _ = np.histogram(ranks, edges)
    expected = len(ranks) * np.diff(edges) / values
    return float(stats.chisquare(seen, expected).pvalue)


def histogram_edges(draws: int, bins: int) -> np.ndarray:
    """Edges of bins for ranks 0 to S, with integer numbers of ranks that are as equal as possible."""
    return np.round(np.linspace(0, draws + 1, bins + 1)) - 0.5


def _said(row: Any, level: float) -> str:
    words = []
    if row.bias_p < level:
        words.append("biased upwards" if row.bias > 0 else "biased downwards")
    if row.spread_p < level:
        words.append("under-dispersed" if row.spread > 1 else "over-dispersed")
    if row.shape_p < level and not words:
        words.append("of a different shape")
    return ", ".join(words)


def rank_verdict(table: pd.DataFrame, simulations: int, failed: int) -> str:
    """The outcome of the tests in a few sentences.

    Args:
        table: `rank_tests`.
        simulations: R, the number of data sets with ranks.
        failed: Number of further fits that became NaN or infinite.
    """
    alarmed = table[table.said != ""]
    parts = []
    if alarmed.empty:
        made = int(table[[*TESTS]].notna().sum().sum())
        errors = float(stats.norm.isf(LEVEL / made / 2)) + 1  # an effect of this size is detected five times in six
        bias, spread = errors * float(table.bias_se.max()), errors * float(table.spread_se.max())
        parts.append(
            f"Calibrated, as far as {simulations} data sets can tell: errors of {rounded(bias, 2)} standard deviations in q's means, or of "
            f"{100 * spread:.0f} % in its standard deviations, would most likely have been detected."
        )
    else:
        worst = alarmed.assign(least=alarmed[[*TESTS]].min(axis=1)).sort_values("least")
        named = [_words(row) for row in worst.head(SAID).itertuples()]
        more = (
            f"; so {'is' if len(alarmed) == SAID + 1 else 'are'} {len(alarmed) - SAID} more"
            if len(alarmed) > SAID
            else ""
        )
        parts.append(f"Not calibrated over {simulations} data sets: {'; '.join(named)}{more}.")
        if quiet := [name for name in table.parameter if name not in set(alarmed.parameter)]:
            parts.append(f"No deviation was found in {first_few(quiet, SAID)}.")
    if failed:
        parts.append(
            f"{failed} more fit{'s' * (failed > 1)} became NaN or infinite and {'are' if failed > 1 else 'is'} not counted, so the result may look better than it is."
        )
    return " ".join(parts)


def _words(row: Any) -> str:
    found = []
    for word in row.said.split(", "):
        side = {"biased upwards": "above", "biased downwards": "below"}.get(word)
        if side:
            found.append(
                f"{word}: q lies {rounded(abs(row.bias), 2)} ± {rounded(row.bias_se, 1)} of its standard deviations {side} the true value ({_p(row.bias_p)})"
            )
        elif word == "of a different shape":
            found.append(f"{word} than q: its histogram is not flat ({_p(row.shape_p)})")
        else:
            found.append(
                f"{word}: the true values spread {rounded(row.spread, 2)} ± {rounded(row.spread_se, 1)} times as widely as q ({_p(row.spread_p)})"
            )
    return f"{row.parameter} is {', and '.join(found)}"


def _p(value: float) -> str:
    return "p < 1e-15" if value < 1e-15 else f"p = {value:.1g}"


@functools.lru_cache(maxsize=100)
def band(count: int, part: float, level: float = LEVEL) -> tuple[float, float]:
    """The interval in which a bin's count lies with probability 1 − level.

    Args:
        count: Total number of ranks.
        part: Fraction of the possible ranks that fall into the bin.
    """
    low, high = stats.binom.ppf([level / 2, 1 - level / 2], count, part)
    return float(low), float(high)


def ordered(table: pd.DataFrame, names: Sequence[str]) -> list[str]:
    """The parameters, least calibrated first; ties in their original order."""
    least = dict(zip(table.parameter, table[[*TESTS]].min(axis=1), strict=True))
    return sorted(names, key=least.__getitem__)
