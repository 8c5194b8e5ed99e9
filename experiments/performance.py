"""How fast is a Pyro program in vbayes, compared with Pyro, NumPyro and hand-written PyTorch?"""

from __future__ import annotations

import functools
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import pandas as pd
import torch

import vbayes as vb
from vbayes.errors import BadInput
from vbayes.progress import bar

LOOP, REFERENCE = "vbayes loop", "NumPyro loop"
PRODUCTS = ("vae",)  # whose time is that of matrix products
COLOURS = {"vbayes": "#0072B2", "NumPyro": "#D55E00", "Pyro": "#999999", "by hand": "#009E73", "matrix": "#F0E442"}


def engines(name: str, *, slow: bool, device: str = "cpu") -> dict[str, Callable[[int], object]]:
    """Name → function that takes a given number of steps of a problem."""
    from engines import by_hand, by_pyro
    from engines.by_numpyro import NumPyro
    from engines.problems import PROBLEMS

    problem = PROBLEMS[name]().on(device)
    numpyro = NumPyro(name, problem)
    found = {
        LOOP: by_pyro.vbayes_loop(problem, device=device),
        "vbayes SVI.step": by_pyro.vbayes_svi(problem),
        "vbayes captured": by_pyro.vbayes_captured(problem),
        REFERENCE: numpyro.loop(),
        "NumPyro jit step": numpyro.steps(),
        "by hand": by_hand.by_hand(name, problem, compiled=False),
        "Pyro": by_pyro.pyro_eager(problem),
        "Pyro Jit": by_pyro.pyro_jit(problem),
    }
    if device != "cpu":
        found["vbayes loop, CUDA graph"] = by_pyro.vbayes_loop(problem, device=device, compile="torch")
        found["by hand, CUDA graph"] = by_hand.by_cuda_graph(name, problem)
    if slow:
        found["by hand, torch.compile"] = by_hand.by_hand(name, problem, compiled=True)
    if name == "vae":
        found["matrix products alone"] = by_hand.products(problem)
    return found


@contextmanager
def products(precision: str) -> Iterator[None]:
    """Matrix products of float32 in all engines alike: "highest", or below that in TF32, where a device has it."""
    import jax

    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision(precision)
    try:
        with jax.default_matmul_precision("highest" if precision == "highest" else "default"):
            yield
    finally:
        torch.set_float32_matmul_precision(before)


def steps(
    name: str, *, rounds: int, budget: float, slow: bool, precision: str = "highest", device: str = "cpu"
) -> list[dict[str, Any]]:
    """Microseconds per step of each engine."""
    with products(precision):
        times = _times(engines(name, slow=slow, device=device), rounds, budget, device)
    what = "one step" if precision == "highest" else f"one step, {precision} precision"
    return _rows(what, name, "µs", {engine: [t * 1e6 for t in values] for engine, values in times.items()})


def draws(name: str, *, rounds: int, budget: float, count: int = 1000, device: str = "cpu") -> list[dict[str, Any]]:
    """Milliseconds for a thousand gradients by each engine."""
    from engines import by_pyro
    from engines.by_numpyro import NumPyro
    from engines.problems import PROBLEMS

    problem, few = PROBLEMS[name]().on(device), 50
    tasks = {
        "vbayes compiled": by_pyro.vbayes_draws(problem, count, compiled=True),
        "vbayes captured": by_pyro.vbayes_draws(problem, count, compiled=False),
        "NumPyro jit(vmap(grad))": NumPyro(name, problem).draws(count),
        "Pyro": by_pyro.pyro_draws(problem, few),
    }
    times = _times({engine: _repeated(task) for engine, task in tasks.items()}, rounds, budget, device)
    times["Pyro"] = [t * count / few for t in times["Pyro"]]
    scaled = {engine: [t * 1e3 for t in values] for engine, values in times.items()}
    return _rows(f"{count} gradients", name, "ms", scaled, reference="NumPyro jit(vmap(grad))")


def _repeated(task: Callable[[], object]) -> Callable[[int], object]:
    def run(times: int) -> None:
        for _ in range(times):
            task()

    return run


def _times(
    tasks: Mapping[str, Callable[[int], object]], rounds: int, budget: float, device: str
) -> dict[str, list[float]]:
    """Seconds per unit of each task: as many units as fit into the budget, the tasks one after the other in each round."""
    from engines.timing import in_turn

    return {
        name: [each.wall for each in taken] for name, taken in in_turn(tasks, rounds, budget, device=device).items()
    }


def totals(name: str, *, rounds: int, steps: int, slow: bool, device: str = "cpu") -> list[dict[str, Any]]:
    """Seconds of a whole training run in a new process, including imports and compilation, and its peak memory."""
    kinds = ["vbayes, cold cache", "vbayes, warm cache", "NumPyro loop", "NumPyro loop, warm cache", "by hand"]
    kinds += ["Pyro"] * slow
    times: dict[str, dict[str, list[float]]] = {what: {kind: [] for kind in kinds} for what in ("all", "run", "peak")}
    with tempfile.TemporaryDirectory() as warm:
        for turn in range(rounds + 1):  # the first one fills the warm caches
            for kind in kinds:
                with tempfile.TemporaryDirectory() as cold:
                    start = time.perf_counter()
                    found = _child(kind.split(",")[0], name, steps, device, Path(warm if "warm" in kind else cold))
                    took = time.perf_counter() - start
                if turn:
                    for what, value in (("all", took), ("run", found["seconds"]), ("peak", found["peak"])):
                        times[what][kind].append(value)
    what = "the first step" if steps == 1 else f"{steps} steps"
    rows = _rows(f"{what}, new process", name, "s", times["all"])
    rows += _rows(f"{what}, without imports", name, "s", times["run"])
    return rows + (_rows("peak memory", name, "MiB", times["peak"]) if steps > 1 else [])


def _child(kind: str, name: str, steps: int, device: str, cache: Path) -> dict[str, float]:
    caches = {"VBAYES_CACHE": str(cache), "JAX_COMPILATION_CACHE_DIR": str(cache / "jax")}
    caches["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0"
    if device == "cpu":
        caches["JAX_PLATFORMS"] = "cpu"
    command = [sys.executable, "-m", "engines.total", kind, name, str(steps), device]
    done = subprocess.run(
        command, cwd=Path(__file__).parent, env=os.environ | caches, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)} failed:\n{done.stderr[-2000:]}")
    return json.loads(done.stdout.splitlines()[-1])


def _rows(
    what: str, problem: str, unit: str, times: Mapping[str, list[float]], reference: str = REFERENCE
) -> list[dict[str, Any]]:
    rows = []
    for engine, values in times.items():
        ratios = [mine / theirs for mine, theirs in zip(values, times[reference], strict=True)]
        rows.append(
            {
                "what": what,
                "problem": problem,
                "engine": engine,
                "median": statistics.median(values),
                "low": min(values),
                "high": max(values),
                "unit": unit,
                "to NumPyro": statistics.median(ratios),
            }
        )
    return rows


def measure(
    device: str,
    problems: tuple[str, ...],
    rounds: int,
    budget: float,
    total_problems: tuple[str, ...],
    total_steps: tuple[int, ...],
    total_rounds: int,
    slow: bool,
) -> pd.DataFrame:
    try:
        import numpyro  # noqa: F401
    except ImportError as error:
        raise BadInput(
            "This experiment measures NumPyro too. Install it: pip install -c constraints.txt '.[bench]'"
        ) from error
    timed = {"rounds": rounds, "budget": budget, "device": device}
    precisions = ("highest",) if device == "cpu" else ("highest", "high")
    work = {
        f"steps of {name}, {precision}": functools.partial(steps, name, **timed, slow=slow, precision=precision)
        for name in problems
        for precision in precisions
        if precision == "highest" or name in PRODUCTS
    }
    work["1000 gradients of eight_schools"] = functools.partial(draws, "eight_schools", **timed)
    for name in total_problems:
        for count in total_steps:
            task = functools.partial(
                totals, name, rounds=total_rounds, steps=count, slow=slow and count <= 1000, device=device
            )
            work[f"{count} steps of {name} in new processes"] = task
    rows: list[dict[str, Any]] = []
    with bar("performance", len(work), show=True) as advance:
        for done, (what, task) in enumerate(work.items()):
            advance(done, functools.partial(str, what))
            rows += task()
        advance(len(work), str)
    on = "CPU" if device == "cpu" else torch.cuda.get_device_name(device)
    return pd.DataFrame(rows).assign(device=on)


def figure(table: pd.DataFrame):
    """A panel for each problem with its engines, fastest first, on a logarithmic scale if they differ widely."""
    panels = [(what, problem) for what, problem in table[["what", "problem"]].drop_duplicates().values.tolist()]
    panels = [p for p in panels if "imports" not in p[0] and "memory" not in p[0]]
    columns = min(3, len(panels))
    rows = -(-len(panels) // columns)
    drawn, axes = plt.subplots(rows, columns, figsize=(4.6 * columns, 2.9 * rows), layout="constrained", squeeze=False)
    for ax, (what, problem) in zip(axes.flat, panels, strict=False):
        here = table[(table.what == what) & (table.problem == problem)].sort_values("median", ascending=False)
        colours = [next((c for name, c in COLOURS.items() if engine.startswith(name)), "0.5") for engine in here.engine]
        spread = [here["median"] - here.low, here.high - here["median"]]
        ax.errorbar(here["median"], here.engine, xerr=spread, fmt="none", ecolor="0.2", lw=1)
        far = here.high.max() > 30 * here.low.min()
        if far:  # a bar has no zero to start from on a logarithmic scale
            ax.set_xscale("log")
            ax.scatter(here["median"], here.engine, color=colours, s=40, zorder=3)
        else:
            ax.barh(here.engine, here["median"], color=colours, height=0.62, zorder=0)
        ax.set_xlim(here.low.min() / 2 if far else 0, here.high.max() * (5 if far else 1.2))
        gap = here.high.max() * 0.02
        for engine, value, high in zip(here.engine, here["median"], here.high, strict=True):
            ax.text(high * 1.15 if far else high + gap, engine, number(value), va="center", fontsize=8)
        ax.set_title(f"{problem.replace('_', ' ')}: {what}", loc="left", fontsize=10)
        ax.set_xlabel(here.unit.iloc[0], fontsize=8, loc="right")
        ax.tick_params(labelsize=8)
        ax.spines[["top", "right"]].set_visible(False)
    for ax in axes.flat[len(panels) :]:
        ax.set_visible(False)
    return drawn


def number(value: float) -> str:
    """Three digits, without powers of ten."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def verdict(table: pd.DataFrame) -> str:
    """The most important ratios, in words."""
    parts = []
    for (what, problem), here in table.groupby(["what", "problem"], sort=False):
        by_engine = here.set_index("engine")
        medians = by_engine["median"]
        if what.startswith("one step"):
            text = f"{problem}{what.removeprefix('one step')}: a step of vbayes' loop takes {number(medians[LOOP])} µs, {by_engine['to NumPyro'][LOOP]:.2f} × NumPyro's loop, "
            text += f"{medians[LOOP] / medians['by hand']:.2g} × PyTorch by hand; Pyro takes {number(medians['Pyro'] / medians[LOOP])} times as long as "
            text += f"the loop and {number(medians['Pyro'] / medians['vbayes SVI.step'])} times as long as vb.SVI.step"
            if "matrix products alone" in medians:
                text += f"; the loop takes {medians[LOOP] / medians['matrix products alone']:.2f} × the matrix products alone"
            parts.append(text)
        elif "gradients" in what:
            mine = medians["vbayes compiled"]
            parts.append(
                f"{what} of {problem}: {mine:.2g} ms, {by_engine['to NumPyro']['vbayes compiled']:.2f} × NumPyro, Pyro "
                f"{medians['Pyro'] / mine:,.0f} times as long"
            )
        elif "new process" in what:
            warm = medians["vbayes, warm cache"]
            parts.append(
                f"{what} of {problem}: {medians['vbayes, cold cache']:.1f} s cold and {warm:.1f} s warm; NumPyro "
                f"{medians['NumPyro loop']:.1f} s and {medians['NumPyro loop, warm cache']:.1f} s"
            )
    where = "" if table.device.iloc[0] == "CPU" else f"On one {table.device.iloc[0]}: "
    return where + ". ".join(parts) + "."


experiment = vb.Experiment(
    question="How fast is a Pyro program in vbayes, compared with Pyro, NumPyro and hand-written PyTorch?",
    claim="As fast as NumPyro's in-graph loop or faster, and within 15 % of its matrix products where those are all the work.",
    measure=measure,
    full={
        "device": "cpu",
        "problems": ("eight_schools", "logistic", "logistic_minibatch", "bnn", "vae"),
        "rounds": 5,
        "budget": 0.5,
        "total_problems": ("eight_schools",),
        "total_steps": (1, 1000, 10_000),
        "total_rounds": 3,
        "slow": True,
    },
    quick={"problems": ("eight_schools", "vae"), "rounds": 3, "budget": 0.2, "total_rounds": 1, "slow": False},
    figure=figure,
    verdict=verdict,
    sections=("what", "problem"),
    slow="it needs NumPyro and an otherwise idle machine; run it by naming its file",
    notes="All engines are measured in turn in every round, in one process; shown are median, lowest and highest over rounds. 'to NumPyro' is the median over "
    "rounds of the ratio to NumPyro's in-graph loop (for gradients: to its jit(vmap(grad))). New processes are timed from start to exit, everything "
    "included. On a GPU: --set device=cuda; 'high' precision there allows TF32 for float32 products, in torch and in JAX. All engines draw their noise, and the rows of their minibatches, in the step.",
)  # fmt: skip
