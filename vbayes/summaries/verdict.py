"""The verdict of a comparison, in words."""

from __future__ import annotations

from collections.abc import Callable

import pandas as pd

from .bias_alarms import alarm_limit, alarmed, bounds, trusted
from .heavy_tails import heavy_tailed
from .listed import listed
from .ties import ties

UNSEEN = 0.5  # relative to a typical draw: a bias of this size must be detectable

Equal = Callable[[str, str, str], bool]  # at, estimator, estimator


def verdict(table: pd.DataFrame, differences: Callable[[str], pd.DataFrame]) -> str:
    """The conclusions of a comparison, in one paragraph. Estimators that show bias are never recommended.

    Args:
        table: `Comparison.to_dataframe()`.
        differences: `Comparison.differences`, from the name of a reference.
    """
    honest = trusted(table)
    whole = honest[honest.group == "all"] if (honest.group == "all").any() else honest
    points = list(dict.fromkeys(whole["at"]))
    biased = set(alarmed(table))
    last = whole[whole["at"] == points[-1]].sort_values("variance_time")
    group = whole.group.iloc[0]

    def equal(at: str, a: str, b: str) -> bool:
        return a in ties(differences(b), at, group)

    parts = []
    for of in bounds(whole):
        dropped = biased & set(table.estimator[table.bound == of])
        parts.append(_winner(last[last.bound == of], points[-1], equal, of, dropped))
        if len(points) > 1:
            parts.append(_along(whole[whole.bound == of], points, equal))
    parts.append(uncaptured(last))
    parts.append(_bias(table))
    parts.append(heavy_tailed(table))
    return " ".join(part for part in parts if part)


def uncaptured(rows: pd.DataFrame) -> str:
    """The estimators that were timed in Pyro while others were timed as programs.

    Args:
        rows: A table with the columns `estimator` and `captured`; older files lack the latter.
    """
    known = rows.dropna(subset="captured").drop_duplicates("estimator")
    slow = known[known.captured != "yes"]
    if slow.empty or len(slow) == len(known):
        return ""
    alone = len(known) - len(slow) == 1
    whose = f"time{'s are' if len(slow) > 1 else ' is'} that of Pyro, not of a compiled program as for the other{'' if alone else 's'}"
    return f"Not compiled: {listed(list(slow.estimator))}, whose {whose}. {slow.captured.iloc[0].splitlines()[0]}"


def _winner(rows: pd.DataFrame, at: str, equal: Equal, of: str, dropped: set[str]) -> str:
    best, rest = rows.iloc[0], rows.iloc[1:]
    start = f"At {_the(at)}" if of == "ELBO" else f"Among estimators of the {of}, at {_the(at)}"
    if rest.empty:
        why = "shows no bias" if dropped - {best.estimator} else "was measured"
        return f"{start}, only {best.estimator} {why}: its variance × time is {best.variance_time:.3g}."
    if best.variance == 0.0:
        silent = [r.estimator for r in rows.itertuples() if r.variance == 0.0]
        text = f"{start}, {listed(silent)} {'have' if len(silent) > 1 else 'has'} no noise at all"
        return text + ("." if best.estimator in dropped else f". Use {best.estimator} here.")
    tied = [r.estimator for r in rest.itertuples() if equal(at, r.estimator, best.estimator)]
    others = [r for r in rest.itertuples() if r.estimator not in tied]
    if tied:
        text = f"{start}, {listed([best.estimator, *tied])} can't be distinguished in gradient noise per second"
        text += ", and beat the rest" if others else ""
    else:
        text = f"{start}, {best.estimator} gives the least gradient noise per second"
    if others:
        text += ": " + "; ".join(
            f"{r.estimator} needs {_times(r.variance_time / best.variance_time)} the time" for r in others
        )
        text += " for the same precision"
    return text + ("." if best.estimator in dropped else f". Use {best.estimator} here.")


def _along(rows: pd.DataFrame, points: list[str], equal: Equal) -> str:
    best = rows[rows["at"] == points[-1]].sort_values("variance_time").iloc[0]
    first = rows[rows["at"] == points[0]].sort_values("variance_time").iloc[0]
    text = ""
    if first.estimator != best.estimator:
        before = rows[(rows["at"] == points[0]) & (rows.estimator == best.estimator)].iloc[0]
        if equal(points[0], before.estimator, first.estimator):
            text = f"At {_the(points[0])} it ties with {first.estimator}."
        else:
            text = f"At {_the(points[0])} {first.estimator} is better: "
            text += (
                "it has no noise at all there."
                if first.variance == 0.0
                else f"{best.estimator} needs {_times(before.variance_time / first.variance_time)} its time there."
            )
    if "pathwise" in set(rows.estimator) and best.estimator != "pathwise":
        ratios = []
        for at in _few(points):
            here = rows[rows["at"] == at].set_index("estimator").variance
            if here[best.estimator] > 0.0:
                ratios.append(f"{_times(here['pathwise'] / here[best.estimator])} at {_the(at)}")
        if ratios:
            text += f" The variance of pathwise, relative to that of {best.estimator}, is {listed(ratios)}."
    return text.strip()


def _few(points: list[str]) -> list[str]:
    return points if len(points) <= 3 else [points[0], points[len(points) // 2], points[-1]]


def _the(at: str) -> str:
    return f"the {at}" if at in ("start", "middle", "end", "prior", "posterior") else at


def _bias(table: pd.DataFrame) -> str:
    """Which estimators are biased, which are not, and which could not be judged."""
    tests = table.dropna(subset="bias_z")
    if tests.empty:
        return ""
    limit = alarm_limit(table)
    alarm = tests.bias_z.abs() > limit
    wholly = tests[tests.group == "all"] if (tests.group == "all").any() else tests
    typical = (wholly.mean_norm**2 + wholly.variance) ** 0.5  # relative to a draw
    blind = ~alarm[wholly.index] & (wholly.bias_resolution > UNSEEN * typical)
    text = ""
    if alarm.any():
        biased = tests[alarm]
        text = (
            f"Biased here: {listed(alarmed(table))} (|z| up to {biased.bias_z.abs().max():.1f}, alarm at {limit:.1f}); "
            "don't trust a low variance."
        )
    elif not blind.all():
        text = f"No estimator shows bias: the largest |z| of {len(tests)} tests is {tests.bias_z.abs().max():.1f} (alarm at {limit:.1f})."
    if blind.any():
        worst = (wholly.bias_resolution / typical)[blind].max()
        unseen = wholly[blind]
        text += (
            f" Can't judge the bias of {listed(list(dict.fromkeys(unseen.estimator)))} at {listed(list(dict.fromkeys(unseen['at'])))}: a bias as large as {worst:.1f} × a typical gradient "
            "would be hidden by the noise of the oracle and the draws. Use more replicas, or a less noisy oracle."
        )
    return text.strip()


def _times(ratio: float) -> str:
    return f"{ratio:,.0f}×" if ratio >= 10 else f"{ratio:.2g}×"
