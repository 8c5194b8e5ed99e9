"""The ranking of a training race at equal steps and at equal time, as a table and as a verdict."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from .listed import listed
from .ties import FEWEST, tied, too_few

STEADY = 1.5  # ratio of the actual to the usual time of steps above which timings are called unsteady


@dataclass(frozen=True)
class Entry:
    """An estimator in a race.

    Attributes:
        estimator: Name of the estimator.
        bound: The bound that it maximises; all are evaluated by the ELBO.
        engine: What took its steps: "machine code", "captured program" or "Pyro".
        setup_seconds: Time before the first step, for capture and compilation. Runs with further seeds use the same program.
        failures: A description of each run that became NaN or infinite: seed, what, step and site.
    """

    estimator: str
    bound: str
    engine: str
    setup_seconds: float
    failures: tuple[str, ...] = ()


def finished(table: pd.DataFrame) -> pd.DataFrame:
    """The curves, except those that end in a NaN."""
    good = table.elbo_per_datum.notna().groupby([table.estimator, table.seed]).transform("all")
    return table[good]


def at_equal(table: pd.DataFrame, axis: str, measure: str = "elbo_per_datum") -> tuple[float, pd.DataFrame]:
    """The largest value of an axis that all finished runs have reached, and the ELBO per datum of each run there.

    Args:
        table: `Race.to_dataframe()`.
        axis: "step" or "seconds".
        measure: A column to use instead of the ELBO's.

    Returns:
        That value; and a seed × estimator table, NaN for a run that became NaN or infinite. Between two evaluations, measures are interpolated linearly.
    """
    good, names = finished(table), list(dict.fromkeys(table.estimator))
    every = pd.MultiIndex.from_product([list(dict.fromkeys(table.seed)), names], names=["seed", "estimator"])
    if good.empty:
        return 0.0, pd.Series(np.nan, index=every).unstack()[names]
    point = float(good.groupby(["estimator", "seed"])[axis].max().min())
    values = {
        (seed, name): np.interp(point, run[axis], run[measure])
        for (name, seed), run in good.groupby(["estimator", "seed"])
    }
    return point, pd.Series(values, dtype=float).reindex(every).unstack()[names]


def common_level(table: pd.DataFrame) -> float:
    """The ELBO per datum above which every run of the better half of the estimators ends; NaN if there are none."""
    ends = finished(table).groupby(["estimator", "seed"]).elbo_per_datum.last().unstack()
    whole = ends.reindex(columns=list(dict.fromkeys(table.seed))).dropna()
    if whole.empty:
        return math.nan
    better = whole.mean(axis=1).nlargest(-(-len(whole) // 2)).index
    return float(whole.loc[better].to_numpy().min())


def seconds_to(run: pd.DataFrame, level: float) -> float:
    """The time at which a run's curve first reaches a level; NaN if it does not."""
    elbo, seconds = run.elbo_per_datum.to_numpy(), run.seconds.to_numpy()
    there = np.flatnonzero(elbo >= level)
    if not len(there):
        return math.nan
    if (i := there[0]) == 0:
        return float(seconds[0])
    share = (level - elbo[i - 1]) / (elbo[i] - elbo[i - 1])
    return float(seconds[i - 1] + share * (seconds[i] - seconds[i - 1]))


def pace(runs: Sequence[pd.DataFrame]) -> float:
    """Seconds per step: the median over intervals between evaluations. NaN if there are none."""
    intervals = pd.concat([run[["step", "seconds"]].diff() for run in runs])
    return float((intervals.seconds / intervals.step).median())


def summary(table: pd.DataFrame, entries: Sequence[Entry]) -> pd.DataFrame:
    """A row for each estimator; see `Race.summary`."""
    level = common_level(table)
    (steps, by_step), (seconds, by_time) = at_equal(table, "step"), at_equal(table, "seconds")
    rows = []
    for entry in entries:
        name = entry.estimator
        own = [run for _, run in table[table.estimator == name].groupby("seed")]
        times = pd.Series([seconds_to(run, level) for run in own])
        rows.append(
            {
                "estimator": name,
                "finished": len(own) - len(entry.failures),
                "steps": int(steps),
                "elbo_at_steps": by_step[name].mean(),
                "elbo_at_steps_se": by_step[name].sem(),
                "seconds": seconds,
                "elbo_at_seconds": by_time[name].mean(),
                "elbo_at_seconds_se": by_time[name].sem(),
                "level": level,
                "seconds_to_level": times.mean(skipna=False),
                "seconds_to_level_se": times.sem(skipna=False),
                "ms_per_step": 1e3 * pace(own),
                "setup_seconds": entry.setup_seconds,
                "engine": entry.engine,
                "bound": entry.bound,
            }
        )
    return pd.DataFrame(rows)


def verdict(table: pd.DataFrame, entries: Sequence[Entry], *, interrupted: bool = False) -> str:
    """The conclusions of a race, in one paragraph.

    Args:
        table: `Race.to_dataframe()`.
        entries: Entries of the estimators.
        interrupted: Whether it was stopped early.
    """
    parts = ["The race was stopped early."] if interrupted else []
    steps, by_step = at_equal(table, "step")
    seconds, by_time = at_equal(table, "seconds")
    if finished(table).empty:
        parts.append("No run stayed finite.")
    else:
        parts.append(_leader(by_step, f"After {steps:,.0f} steps each"))
        if len(entries) > 1:
            parts += [_leader(by_time, f"After {seconds_in_words(seconds)} each"), _race_to(table, entries)]
        tie = any(tied(_behind(values)[1]) for values in (by_step, by_time))
        parts.append(too_few(len(by_step), len(by_step.dropna(axis=1).columns), tie=tie))
    parts += failed(entries, len(by_step))
    parts += [_asides(entries), unsteady(table)]
    return " ".join(part for part in parts if part)


def _leader(values: pd.DataFrame, when: str) -> str:
    """Paired by seed: the runs of one seed share the order of the data, and much of their noise."""
    best, behind = _behind(values)
    if not best:
        return ""
    where = f"an ELBO of {values[best].mean():.5g} nats per datum"
    if not behind:
        return f"{when}, {best} is at {where}."
    said = {
        name: f"{gap.mean():.2g}{'' if len(gap) == 1 else f' ± {gap.sem():.1g}'} behind" for name, gap in behind.items()
    }
    near = tied(behind)
    rest = "; ".join(f"{name} is {said[name]}" for name in behind if name not in near)
    if not near:
        return f"{when}, {best} {'is highest' if len(values) < FEWEST else 'leads'}, at {where}: {rest}."
    if not rest:
        return f"{when}, {listed([best, *near])} can't be distinguished; the highest is at {where}."
    close = listed([f"{name} ({said[name]})" for name in near])
    return f"{when}, {best} is highest, at {where}, but can't be distinguished from {close}; {rest}."


def _behind(values: pd.DataFrame) -> tuple[str, dict[str, pd.Series]]:
    """Who is highest, and how far the others are behind for each seed, those that stayed finite, in order; "" if none did."""
    means = values.dropna(axis=1).mean().sort_values(ascending=False)
    names = [str(name) for name in means.index]
    return (names[0], {name: values[names[0]] - values[name] for name in names[1:]}) if names else ("", {})


def _race_to(table: pd.DataFrame, entries: Sequence[Entry]) -> str:
    rows = summary(table, entries).sort_values("seconds_to_level")
    came, late = rows[rows.seconds_to_level.notna()], rows[rows.seconds_to_level.isna()]
    if came.empty:
        return ""
    times = [f"{row.estimator} {seconds_in_words(row.seconds_to_level)}" for row in came.itertuples()]
    text = f"To reach {rows.level.iloc[0]:.5g}: {listed(times)} of training"
    return text + (f"; not all runs of {listed(list(late.estimator))} reached it." if len(late) else ".")


def failed(entries: Sequence[Entry], seeds: int) -> list[str]:
    """A sentence for each estimator with runs that became NaN or infinite."""
    found = []
    for entry in (entry for entry in entries if entry.failures):
        runs = "Its run" if seeds == 1 else f"{len(entry.failures)} of {seeds} runs"
        found.append(f"{runs} of {entry.estimator} became NaN or infinite ({entry.failures[0]}), so it is not ranked.")
    return found


def _asides(entries: Sequence[Entry]) -> str:
    others = [f"{entry.estimator} ({entry.bound})" for entry in entries if entry.bound != "ELBO"]
    text = ""
    if others:
        text = f"{listed(others)} {'maximise other objectives' if len(others) > 1 else 'maximises another objective'}; they are compared by the ELBO."
    return f"{text} {by_pyro(entries)}".strip()


def by_pyro(entries: Sequence[Entry]) -> str:
    """Names the estimators whose times can't be compared with the others."""
    slow = [entry.estimator for entry in entries if entry.engine == "Pyro"]
    if slow and len(slow) < len(entries):
        return f"{listed(slow)} ran step by step in Pyro, but the others were compiled: don't compare the times."
    return ""


def unsteady(table: pd.DataFrame) -> str:
    """A warning if the machine was busy, judged by the time of the worst run's steps relative to their usual time."""
    usual = {name: pace([run for _, run in own.groupby("seed")]) for name, own in table.groupby("estimator")}
    last = table.groupby(["estimator", "seed"]).last()
    ratios = last.seconds / last.step / pd.Series(usual).reindex(last.index.get_level_values(0)).to_numpy()
    if not ratios.max() > STEADY:
        return ""
    name, seed = ratios.idxmax()
    return f"The clock was unsteady: the steps of {name} with seed {seed} took {ratios.max():.1f} times as long as usual. Repeat the race on a quieter machine, for longer, or on one thread (torch.set_num_threads(1))."


def seconds_in_words(seconds: float) -> str:
    if seconds < 1:
        return f"{1e3 * seconds:.3g} ms"
    return f"{seconds:.2g} s" if seconds < 10 else f"{seconds:,.0f} s"
