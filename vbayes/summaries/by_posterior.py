"""Summary and verdict of a race of objectives: the distance of q from the posterior at equal time."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from .listed import listed
from .ranking import Entry, at_equal, by_pyro, failed, finished, seconds_in_words, unsteady
from .ties import tied, too_few

WORDS = {
    "kl": "KL(q ‖ p)",
    "forward_kl": "KL(p ‖ q)",
    "mean_error": "the error of the means",
    "sd_error": "the error of the sds",
    "k_hat": "k̂",
    "effective": "the relative effective number of draws",
}
"""Column → description. Higher is better for `effective`, lower for all others."""
UNITS = {"kl": " nats per datum", "forward_kl": " nats per datum", "mean_error": " sd", "sd_error": " (log ratio)"}


def measured(table: pd.DataFrame) -> list[str]:
    """The measures for which the table of a race has numbers."""
    return [name for name in WORDS if name in table and table[name].notna().any()]


def at_equal_time(table: pd.DataFrame, entries: Sequence[Entry]) -> pd.DataFrame:
    """A row for each entry, with the mean over seeds of each measure after equal seconds, and its standard error as `…_se`."""
    found = pd.DataFrame({"estimator": [entry.estimator for entry in entries]})
    for name in measured(table):
        values = at_equal(table, "seconds", name)[1].reindex(columns=found.estimator)
        found[name], found[f"{name}_se"] = values.mean().to_numpy(), values.sem().to_numpy()
    return found


def verdict(table: pd.DataFrame, entries: Sequence[Entry], *, interrupted: bool = False) -> str:
    """Which objective brings q closest to the posterior, by each measure, in one paragraph."""
    parts = ["The race was stopped early."] if interrupted else []
    names = measured(table)
    if finished(table).empty:
        parts.append("No run stayed finite.")
    elif not names:
        parts.append("No measure of the posterior is available.")
    else:
        seconds = at_equal(table, "seconds", names[0])[0]
        parts.append(
            f"After {seconds_in_words(seconds)} each: {'; '.join(_least(table, name, 'seconds') for name in names)}."
        )
        steps = at_equal(table, "step", names[0])[0]
        if (table.groupby(["estimator", "seed"]).step.max() == steps).all():
            parts.append(f"After all {steps:,.0f} steps: {_least(table, names[0], 'step')}.")
        every = [_behind(table, name, "seconds") for name in names]
        counts = [len(values.columns) for values, _ in every]
        parts.append(too_few(table.seed.nunique(), max(counts), tie=any(tied(gaps) for _, gaps in every)))
    parts += [*failed(entries, table.seed.nunique()), by_pyro(entries), unsteady(table)]
    return " ".join(part for part in parts if part)


def _least(table: pd.DataFrame, name: str, axis: str) -> str:
    """Who is best by one measure, judged by itself."""
    values, gaps = _behind(table, name, axis)
    if values.empty:
        return f"{WORDS[name]} is unknown"
    best, near = str(values.columns[0]), tied(gaps)
    number = f"{values[best].mean():.2g}{UNITS.get(name, '')}"
    most = "highest" if name == "effective" else "lowest"
    close = f", not distinguishable from {listed(near)}" if near else ""
    rest = [other for other in gaps if other not in near]
    worst = f" ({rest[-1]} has {values[rest[-1]].mean():.2g})" if rest else ""
    return f"{WORDS[name]} is {most} with {best}, {number}{close}{worst}"


def _behind(table: pd.DataFrame, name: str, axis: str) -> tuple[pd.DataFrame, dict[str, pd.Series]]:
    """The values of a measure, seed × estimator, best first; and how far each other one is behind, paired by seed, as the runs of a seed share much of their noise."""
    values = at_equal(table, axis, name)[1].dropna(axis=1)
    sign = -1.0 if name == "effective" else 1.0
    values = values[(sign * values).mean().sort_values().index]
    return values, {str(other): sign * (values[other] - values.iloc[:, 0]) for other in values.columns[1:]}
