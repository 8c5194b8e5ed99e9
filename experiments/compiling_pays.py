"""Does `compile="auto"` ever make a fit much longer than Pyro alone?"""

from __future__ import annotations

import functools
import importlib.util
import os
import resource
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest import mock

import matplotlib.pyplot as plt
import pandas as pd

import vbayes as vb
from vbayes.plots.palette import GRID
from vbayes.progress import bar

BOUND = 1.3
STYLES = Path(__file__).parents[1] / "tests" / "staging" / "programs.py"
LOOPS = (25, 50, 100, 200)
Made = tuple[vb.Pair, Any, Any, int | None]
"""Pair, data, estimator, rows in a minibatch."""


def programs() -> dict[str, Callable[[], Made]]:
    """Programs in the styles that users write, the built-in pairs, and time loops of several lengths."""
    spec = importlib.util.spec_from_file_location("styles", STYLES)
    assert spec and spec.loader
    styles = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(styles)
    made: dict[str, Callable[[], Made]] = {}
    for name in styles.PROGRAMS:
        if name != "gaussian_process":  # which takes no data
            made[name] = functools.partial(_style, styles, name)
    for name, recipe in vb.pairs.PAIRS.items():
        made[f"vb.pairs.{name}"] = functools.partial(_built_in, recipe)
    for steps in LOOPS:
        made[f"latent walk, T = {steps}"] = functools.partial(_walk, steps)
        made[f"enumerated chain, T = {steps}"] = functools.partial(_chain, steps)
    return made


def _style(styles: Any, name: str) -> Made:
    pair, estimator, batch = styles.made(name)
    return pair, batch.args, estimator, None


def _built_in(recipe: Any) -> Made:
    data = getattr(vb.data, recipe.data)()
    return recipe.pair(data), data, None, recipe.batch_size


def _walk(steps: int) -> Made:
    """A random walk: one normal latent for each observation, and a factor of the guide for each."""
    import pyro
    import pyro.distributions as dist
    import torch

    def model(y: torch.Tensor) -> None:
        scale, z = pyro.sample("scale", dist.LogNormal(0.0, 1.0)), torch.tensor(0.0)
        for t in pyro.markov(range(len(y))):
            z = pyro.sample(f"z{t}", dist.Normal(0.9 * z, scale))
            pyro.sample(f"y{t}", dist.Normal(z, 0.5), obs=y[t])

    def guide(y: torch.Tensor) -> None:
        locs, scales = (pyro.param(name, torch.zeros(len(y))) for name in ("locs", "scales"))
        pyro.sample("scale", dist.LogNormal(pyro.param("scale_loc", torch.tensor(0.0)), 0.1))
        for t in pyro.markov(range(len(y))):
            pyro.sample(f"z{t}", dist.Normal(locs[t], scales[t].exp()))

    return vb.Pair(model, guide), (torch.linspace(-1, 1, steps),), pyro.infer.Trace_ELBO(), None


def _chain(steps: int) -> Made:
    """A hidden Markov model with three states, which Pyro enumerates."""
    import pyro
    import pyro.distributions as dist
    import torch
    from pyro.infer.autoguide import AutoNormal

    def model(y: torch.Tensor) -> None:
        moves, x = pyro.param("moves", lambda: torch.eye(3)), None
        locs = pyro.sample("locs", dist.Normal(torch.tensor([-1.0, 0.0, 1.0]), 3.0).to_event(1))
        for t in pyro.markov(range(len(y))):
            logits = torch.zeros(3) if x is None else moves[x]
            x = pyro.sample(f"x{t}", dist.Categorical(logits=logits), infer={"enumerate": "parallel"})
            pyro.sample(f"y{t}", dist.Normal(locs[x], 1.0), obs=y[t])

    guide = AutoNormal(pyro.poutine.block(model, expose=["locs"]))
    return vb.Pair(model, guide), (torch.linspace(-1, 1, steps),), pyro.infer.TraceEnum_ELBO(max_plate_nesting=0), None


def _fit(made: Made, steps: int, how: Any) -> tuple[float, str]:
    """CPU seconds of a fit with an empty cache, including the C compiler's, and the engine that took its steps."""
    pair, data, estimator, batch_size = made
    with tempfile.TemporaryDirectory() as folder, mock.patch.dict(os.environ, VBAYES_CACHE=folder):
        before = _spent()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # warnings about programs that can't be compiled
            fit = vb.fit(pair, data, estimator, steps=steps, batch_size=batch_size, compile=how, seed=0, progress=False)
        return _spent() - before, fit.engine


def _spent() -> float:
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.process_time() + children.ru_utime + children.ru_stime


def measure(*, steps: tuple[int, ...], by_pyro: int, names: str | None) -> pd.DataFrame:
    """Time of each program, by Pyro alone and with `compile="auto"`, for each number of steps.

    Args:
        by_pyro: Steps by which the time of one Pyro step is measured, once before the other fits and once after.
        names: Only programs whose name contains this; all if None.
    """
    chosen = {name: make for name, make in programs().items() if names is None or names in name}
    _fit(_built_in(vb.pairs.PAIRS["eight_schools"]), max(steps), "native")  # loads what a process loads only once
    table: list[dict[str, Any]] = []
    with bar("compiling", len(chosen), show=True) as advance:
        for done, (name, make) in enumerate(chosen.items()):
            advance(done, functools.partial(str, name))
            made = make()
            _fit(made, 2, False)
            pyro, _ = _fit(made, by_pyro, False)
            own = [(count, *_fit(made, count, "auto")) for count in steps]
            step = (pyro + _fit(made, by_pyro, False)[0]) / (2 * by_pyro)
            for count, seconds, engine in own:
                row = {"program": name, "steps": count, "Pyro, s": step * count, "auto, s": seconds}
                table.append(row | {"ratio": seconds / (step * count), "engine": engine.split(":")[0]})
        advance(len(chosen), str)
    return pd.DataFrame(table)


def worst(table: pd.DataFrame) -> pd.DataFrame:
    """For each program the row with the largest ratio, largest first."""
    rows = table.loc[table.groupby("program").ratio.idxmax()]
    return rows.sort_values("ratio", ascending=False).reset_index(drop=True)


def verdict(table: pd.DataFrame) -> str:
    top = worst(table).iloc[0]
    over = table[table.ratio > BOUND]
    most = table[table.steps == table.steps.max()].ratio
    head = "Holds" if over.empty else f"Fails for {', '.join(sorted(set(over.program)))}"
    return (
        f"{head}: of {table.program.nunique()} programs at {table.steps.nunique()} numbers of steps the worst is {top.program}, "
        f"{top.ratio:.2f} times as long as by Pyro at {top.steps} steps. At {table.steps.max()} steps the median fit takes {most.median():.2f} of Pyro's time."
    )


def figure(table: pd.DataFrame) -> plt.Figure:
    drawing, ax = plt.subplots(figsize=(8, 5), layout="constrained")
    for _, own in table.groupby("program", sort=False):
        ax.plot(own.steps, own.ratio, color="#0072B2", marker="o", ms=3, lw=0.8, alpha=0.6)
    for _, row in worst(table).head(3).iterrows():
        ax.annotate(row.program, (row.steps, row.ratio), xytext=(4, 3), textcoords="offset points", fontsize=8)
    ax.axhline(BOUND, color="#D55E00", ls="--", lw=1.2, label=f"{BOUND} times Pyro's")
    ax.axhline(1.0, color="0.5", lw=0.8)
    ax.set(xscale="log", yscale="log", xlabel="steps of the fit", ylabel='time with compile="auto" / time of Pyro')
    ax.set_xticks(sorted(set(table.steps)), [f"{n:,}" for n in sorted(set(table.steps))], minor=False)
    ax.minorticks_off()
    ax.grid(True, **GRID)
    ax.legend(frameon=False)
    ax.spines[["top", "right"]].set_visible(False)
    return drawing


experiment = vb.Experiment(
    question='Does compile="auto" ever make a fit much longer than Pyro alone?',
    claim=f"No: at any number of steps it takes at most {BOUND} times as long.",
    measure=measure,
    full={"steps": (100, 300, 400, 1000, 3000, 5000), "by_pyro": 100, "names": None},
    quick={"steps": (400, 5000), "by_pyro": 30},
    figure=figure,
    verdict=verdict,
    summary=worst,
    slow="it takes an hour on an idle machine; run it by naming its file",
    files=("../tests/staging/programs.py",),
    notes="Total CPU seconds, including those of the C compiler, with an empty cache. Pyro's are the time of one step times the number of steps. "
    "The engine is the one that took the last steps.",
)  # fmt: skip
