"""The learning curves of a race."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib import pyplot
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ..arguments.takes import takes
from ..arguments.tensor import Table
from .palette import GRID, style

SETTLED = 0.2  # fraction of a run after which the leaders' curves are fully visible
FAR = 5.0  # ratio of the slowest to the fastest run above which time is shown on a logarithmic scale
Curve = tuple[np.ndarray, np.ndarray, bool]


@takes(table=Table(("estimator", "seed", "step", "seconds", "elbo_per_datum")))
def race(table: pd.DataFrame) -> Figure:
    """Plots the ELBO per datum against steps and against seconds: at each evaluation the mean over seeds, and a band from lowest to highest.

    Args:
        table: `Race.to_dataframe()`.
    """
    figure, (left, right) = pyplot.subplots(1, 2, figsize=(9.6, 4.2), sharey=True, layout="constrained")
    names = list(dict.fromkeys(table.estimator))
    low, high = _window(table, names)
    for ax, axis in ((left, "step"), (right, "seconds")):
        for name in names:
            _draw(ax, table[table.estimator == name], axis, name, names, low)
        ax.set_xlabel("optimiser steps" if axis == "step" else "seconds of training")
        ax.grid(**GRID)
        ax.spines[["top", "right"]].set_visible(False)
    left.set_ylim(low, high)
    left.set_ylabel("ELBO per datum (nats)")
    left.set_xlim(left=0)
    _time_axis(right, table, low)
    both = left.get_legend_handles_labels(), right.get_legend_handles_labels()
    handles, labels = (first + more[len(names) :] for first, more in zip(*both, strict=True))
    columns = -(-len(labels) // -(-len(labels) // 5))  # rows of similar length, with at most five entries
    figure.legend(handles, labels, loc="outside lower center", ncols=columns, frameon=False, fontsize=9)
    count = table.seed.nunique()
    what = f": mean of {count} seeds, with the range from lowest to highest" if count > 1 else ""
    figure.suptitle(f"ELBO by steps and by time{what}", x=0.01, ha="left", fontsize=12)
    return figure


def _draw(ax: Axes, own: pd.DataFrame, axis: str, name: str, names: list[str], low: float) -> None:
    x, values, failed = _curve(own, axis)
    label, colour, marker = style(name, names)
    end = float(values[:, -1].mean())
    if failed:
        label += " (became NaN or infinite)"
    elif values[:, -1].max() < low:
        label += f" (below: ends at {end:.3g})".replace("-", "−")
    ax.fill_between(x, values.min(0), values.max(0), color=colour, alpha=0.15, lw=0)
    every = max(1, len(x) // 6)
    first = names.index(name) * every // len(names)  # at different steps, in case curves coincide
    ax.plot(
        x, values.mean(0), color=colour, lw=1.7, marker=marker, ms=6, mec="white" if marker != "x" else colour, mew=0.5, markevery=(first, every), label=label
    )  # fmt: skip
    if failed:
        ax.plot(x[-1], max(end, low), marker="x", ms=9, mew=2, color=colour, clip_on=False)


def _curve(own: pd.DataFrame, axis: str) -> Curve:
    """Positions on an axis, averaged over seeds, for each evaluation; the ELBO (seed, evaluation); and whether a run became NaN or infinite, in which case it ends
    with the last evaluation at which all runs were finite."""
    runs = [run for _, run in own.groupby("seed")]
    failed = any(run.elbo_per_datum.isna().any() for run in runs)
    looks = min(run.elbo_per_datum.count() for run in runs)
    x = np.mean([run[axis].to_numpy()[:looks] for run in runs], axis=0)
    return x, np.array([run.elbo_per_datum.to_numpy()[:looks] for run in runs]), failed


def _window(table: pd.DataFrame, names: list[str]) -> tuple[float, float]:
    """The visible range of the ELBO: the better half of the estimators, at least two, after their initial rise, and others that end not far below."""
    curves = {name: _curve(table[table.estimator == name], "step")[1] for name in names}
    ends = {name: float(values[:, -1].mean()) for name, values in curves.items()}
    better = sorted(names, key=lambda name: -ends[name])[: max(2, -(-len(names) // 2))]
    low = min(float(curves[name][:, int(SETTLED**0.5 * curves[name].shape[1]) :].min()) for name in better)
    high = max(float(values.max()) for values in curves.values())
    for name in names:  # includes those that enlarge the range by at most a factor of two
        worst = float(curves[name][:, -1].min())
        if high - worst <= 2 * (high - low):
            low = min(low, worst)
    room = 0.06 * (high - low) or 0.5
    return low - room, high + room


def _time_axis(ax: Axes, table: pd.DataFrame, low: float) -> None:
    """The time axis: milliseconds or seconds, on a logarithmic scale if some runs take far longer than others, with a mark at equal time."""
    curves = [_curve(own, "seconds") for _, own in table.groupby("estimator")]
    last = max(x[-1] for x, _, _ in curves)
    whole = [x[-1] for x, _, failed in curves if not failed and x[-1] > 0]
    if last < 1:
        ax.xaxis.set_major_formatter(lambda seconds, _: f"{1e3 * seconds:g}")
        ax.set_xlabel("milliseconds of training")
    if not whole:
        return
    if last > FAR * min(whole):
        seen = [x[(values.mean(0) >= low) & (x > 0)] for x, values, _ in curves]
        ax.set_xscale("log")
        ax.set_xlim(0.7 * min(x[0] for x in seen if len(x)), last * 1.1)
    else:
        ax.set_xlim(0, last * 1.02)
    if len(whole) > 1:
        ax.axvline(min(whole), color="#444444", lw=0.8, ls=":", zorder=0, label="equal time")
