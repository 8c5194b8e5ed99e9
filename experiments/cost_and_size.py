"""How does the cost of a step grow with rows, dimension and particles, compared with NumPyro?"""

from __future__ import annotations

import functools
import gc
import math
import statistics
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd

import vbayes as vb
from vbayes.errors import BadInput
from vbayes.plots.palette import GRID
from vbayes.progress import bar

OURS, REFERENCE = "vbayes", "NumPyro"
STYLE = {OURS: ("#0072B2", "o", "-"), REFERENCE: ("#D55E00", "s", "--")}
SWEEPS: dict[str, tuple[str, dict[str, Any], tuple[int, ...]]] = {
    "mean field, rows": ("rows", {"columns": 30, "particles": 1}, (1_000, 10_000, 100_000, 1_000_000)),
    "mean field, dimension": ("columns", {"rows": 200, "particles": 1}, (10, 100, 1_000, 10_000, 100_000)),
    "mean field, particles": ("particles", {"rows": 1_000, "columns": 100}, (1, 4, 16, 64)),
    "full rank, rows": ("rows", {"columns": 30, "particles": 1}, (1_000, 10_000, 100_000, 1_000_000)),
    "full rank, dimension": ("columns", {"rows": 200, "particles": 1}, (10, 100, 500, 1_000)),
    "full rank, particles": ("particles", {"rows": 200, "columns": 100}, (1, 4, 16, 64)),
    "many particles, rows": ("rows", {"columns": 10, "particles": 64}, (1_000, 10_000, 100_000)),
    "many particles, dimension": ("columns", {"rows": 200, "particles": 64}, (10, 100, 1_000, 10_000)),
}
"""Name → what varies, what is held fixed, and the sizes. The guide is mean-field unless the name says "full rank"."""
ASYMPTOTE = 3  # largest sizes that the slope is fitted to: at small ones the fixed cost of a step dominates


def point(sweep: str, size: int, *, rounds: int, budget: float) -> list[dict[str, Any]]:
    """Times of a step at one size by each engine, measured alternately."""
    import torch
    from engines import by_pyro
    from engines.by_numpyro import NumPyro
    from engines.problems import regression
    from engines.timing import in_turn

    grows, stays, _ = SWEEPS[sweep]
    sizes: dict[str, int] = {**stays, grows: size}
    full_rank = sweep.startswith("full rank")
    problem = regression(sizes["rows"], sizes["columns"], full_rank=full_rank)
    tasks = {
        OURS: by_pyro.vbayes_loop(problem, sizes["particles"]),
        REFERENCE: NumPyro("logistic", problem, full_rank=full_rank, particles=sizes["particles"]).loop(),
    }
    taken = in_turn(tasks, rounds, budget, first=2)
    gc.collect()
    rows = []
    for engine, mine in taken.items():
        ratios = [a.wall / b.wall for a, b in zip(mine, taken[REFERENCE], strict=True)]
        by_processor = [a.processor / b.processor for a, b in zip(mine, taken[REFERENCE], strict=True)]
        rows.append(
            {
                "sweep": sweep,
                **sizes,
                "size": size,
                "engine": engine,
                "µs": statistics.median(t.wall for t in mine) * 1e6,
                "processor µs": statistics.median(t.processor for t in mine) * 1e6,
                "low": min(t.processor for t in mine) * 1e6,
                "high": max(t.processor for t in mine) * 1e6,
                "to NumPyro": statistics.median(ratios),
                "to NumPyro, processor": statistics.median(by_processor),
                "threads": torch.get_num_threads(),
            }
        )
    return rows


def measure(*, sweeps: tuple[str, ...], rounds: int, budget: float, largest: int) -> pd.DataFrame:
    """All points of some sweeps, except those whose data have more than `largest` entries."""
    try:
        import numpyro  # noqa: F401
    except ImportError as error:
        raise BadInput(
            "This experiment measures NumPyro too. Install it: pip install -c constraints.txt '.[bench]'"
        ) from error
    if unknown := [name for name in sweeps if name not in SWEEPS]:
        raise BadInput(f"sweeps={unknown}. Wanted: some of {', '.join(SWEEPS)}.")
    points = []
    for sweep in sweeps:
        grows, stays, sizes = SWEEPS[sweep]
        for size in sizes:
            each = {**stays, grows: size}
            if each["rows"] * each["columns"] <= largest:
                points.append((sweep, size))
    table: list[dict[str, Any]] = []
    with bar("cost and size", len(points), show=True) as advance:
        for done, (sweep, size) in enumerate(points):
            advance(done, functools.partial("{}, {:,}".format, sweep, size))
            table += point(sweep, size, rounds=rounds, budget=budget)
        advance(len(points), str)
    return pd.DataFrame(table)


def slope(own: pd.DataFrame) -> float:
    """Least-squares slope of log time on log size at the largest sizes."""
    last = own.sort_values("size").tail(ASYMPTOTE)
    if len(last) < 2:
        return math.nan
    return float(np.polyfit(np.log(last["size"]), np.log(last["processor µs"]), 1)[0])


def figure(table: pd.DataFrame) -> plt.Figure:
    """A panel for each sweep: time against size on logarithmic axes, the slope at the largest sizes, and below each point the ratio to NumPyro."""
    names = list(dict.fromkeys(table.sweep))
    columns = min(4, len(names))
    rows = -(-len(names) // columns)
    drawn, axes = plt.subplots(rows, columns, figsize=(3.5 * columns, 3.3 * rows), layout="constrained", squeeze=False)
    for ax, name in zip(axes.flat, names, strict=False):
        own = table[table.sweep == name]
        for engine, (colour, marker, line) in STYLE.items():
            each = own[own.engine == engine].sort_values("size")
            spread = [each["processor µs"] - each.low, each.high - each["processor µs"]]
            label = f"{engine}: size^{slope(each):.2f}"
            ax.errorbar(
                each["size"], each["processor µs"], yerr=spread, label=label, color=colour, marker=marker, ls=line, lw=1.4, ms=5,
                mec="white", mew=0.5,
            )  # fmt: skip
        mine = own[own.engine == OURS]
        for x, y, ratio in zip(mine["size"], mine["processor µs"], mine["to NumPyro, processor"], strict=True):
            ax.annotate(
                f"{ratio:.2f}",
                (x, y),
                xytext=(0, -13),
                textcoords="offset points",
                ha="center",
                fontsize=7,
                color=STYLE[OURS][0],
            )
        ax.set_xscale("log")
        ax.set_yscale("log")
        ax.margins(x=0.12, y=0.18)
        ax.set_title(name, loc="left", fontsize=10)
        grows, stays, _ = SWEEPS[name]
        said = {"rows": "rows", "columns": "dimension", "particles": "particles"}
        ax.set_xlabel(f"{said[grows]}  ({', '.join(f'{v:,} {said[k] if v != 1 else said[k][:-1]}' for k, v in stays.items() if k != 'columns')}"
                      f"{', dimension ' + format(stays['columns'], ',') if 'columns' in stays else ''})", fontsize=8)  # fmt: skip
        ax.grid(True, which="major", **GRID)
        ax.tick_params(which="both", labelsize=8)
        ax.spines[["top", "right"]].set_visible(False)
        ax.legend(fontsize=7.5, frameon=False, loc="upper left")
    for ax in axes.flat[len(names) :]:
        ax.set_visible(False)
    for ax in axes[:, 0]:
        ax.set_ylabel("CPU µs per step", fontsize=8)
    return drawn


def verdict(table: pd.DataFrame) -> str:
    mine = table[table.engine == OURS]
    ratios = mine["to NumPyro, processor"]
    behind = mine[ratios > 1]
    head = "Holds" if behind.empty else f"Holds at {len(mine) - len(behind)} of {len(mine)} sizes"
    parts = []
    for name in dict.fromkeys(table.sweep):
        own = table[table.sweep == name]
        at = own[own.engine == OURS].sort_values("size")
        last = at["to NumPyro, processor"]
        powers = slope(at), slope(own[own.engine == REFERENCE])
        grows = f", growing like size^{powers[0]:.2f} (NumPyro's {powers[1]:.2f})" if math.isfinite(sum(powers)) else ""
        parts.append(f"{name}: {last.min():.2f} to {last.max():.2f} × NumPyro{grows}")
    worst = "" if behind.empty else "; behind at " + ", ".join(
        f"{row.sweep} {int(row['size']):,} ({row['to NumPyro, processor']:.2f})" for _, row in behind.iterrows()
    )  # fmt: skip
    return f"{head}: a step takes {ratios.min():.2f} to {ratios.max():.2f} times the processor time of NumPyro's loop, {statistics.median(ratios):.2f} in the median{worst}. {'; '.join(parts)}."


experiment = vb.Experiment(
    question="How does the cost of a step grow with rows, dimension and particles, compared with NumPyro?",
    claim="At no size does a step take longer than NumPyro's in-graph loop.",
    measure=measure,
    full={"sweeps": tuple(SWEEPS), "rounds": 7, "budget": 0.3, "largest": 10**8},
    quick={"rounds": 5, "budget": 0.05, "largest": 10**6},
    figure=figure,
    verdict=verdict,
    sections=("sweep",),
    slow="it needs NumPyro and an otherwise idle machine; run it by naming its file",
    notes="Logistic regression with a normal guide. Both engines are measured alternately in one process; times are medians over rounds. 'to NumPyro' is the "
    "median over rounds of the ratio to NumPyro's loop, by wall-clock time and by CPU time, which other work on the machine hardly affects. "
    "Both draw their noise in the step and use as many threads as the process may.",
)  # fmt: skip
