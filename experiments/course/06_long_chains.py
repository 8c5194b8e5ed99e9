"""Can the three problems of a hidden Markov model be solved on long chains: correctly, and in time linear in their length?"""

from __future__ import annotations

import math
from collections.abc import Callable

import matplotlib.pyplot as plt
import pandas as pd
import torch
from answers import above, every, head
from forward_backward import best_path, em_step, forward_backward, log_normal, of_path
from scipy.stats import chi2

import vbayes as vb
from vbayes.exact.hidden_markov import log_evidence_by_recursion
from vbayes.laboratory.timing import interleaved
from vbayes.plots.palette import GRID

PROBLEMS = {"recognition": "#0072B2", "segmentation": "#009E73", "learning": "#CC79A7"}
RIGHT = 1e-8  # tolerance for evidence, probabilities and parameters: sums of 10⁵ terms in double precision
LINEAR = 1.5  # time that grows with a lower power of the length than this counts as linear; quadratic work has 2
LUCK = 1e-5  # significance level of the test for a maximum


def chain(states: int) -> vb.HiddenMarkov:
    """States with an expected duration of ten steps and means two standard deviations apart, in double precision."""
    moves = torch.full((states, states), 0.1 / (states - 1), dtype=torch.float64).fill_diagonal_(0.9)
    mean = 2 * torch.arange(states, dtype=torch.float64)
    return vb.HiddenMarkov(moves.new_full((states,), 1 / states), moves, vb.GaussianEmission(mean, torch.ones_like(mean)))  # fmt: skip


def parameters(model: vb.HiddenMarkov) -> list[torch.Tensor]:
    assert isinstance(model.emission, vb.GaussianEmission)
    return [model.initial, model.transition, model.emission.mean, model.emission.scale]


def solved(model: vb.HiddenMarkov, x: torch.Tensor) -> dict[str, Callable[[], object]]:
    """The three problems for x (1, T). One iteration of EM takes two E-steps here, as it also returns the evidence that it reached."""
    return {
        "recognition": lambda: model.log_evidence(x),
        "segmentation": lambda: model.posterior(x),
        "learning": lambda: vb.baum_welch(x, model, iterations=1),
    }


def errors(model: vb.HiddenMarkov, x: torch.Tensor) -> dict[str, float]:
    """Differences from scaled recursions in NumPy, and the step at which unscaled probabilities would underflow."""
    initial, transition, mean, sd = (value.numpy() for value in parameters(model))
    given = initial, transition, log_normal(x[0].numpy(), mean, sd)
    known = forward_backward(*given)
    learnt = vb.baum_welch(x, model, iterations=1).model
    path = of_path(*given, model.viterbi(x)[0].numpy())
    apart = [abs(a.numpy() - b).max() for a, b in zip(parameters(learnt), em_step(known, x[0].numpy()), strict=True)]
    return {
        "recognition": abs(float(model.log_evidence(x)) / known.log_evidence - 1),
        "segmentation": float(abs(model.posterior(x)[0].numpy() - known.posterior).max()),
        "best path": abs(path / best_path(*given) - 1),
        "learning": float(max(apart)),
        "underflow": known.underflow,
    }


def learnt(model: vb.HiddenMarkov, x: torch.Tensor) -> dict[str, float]:
    """EM from a start away from the true parameters. Twice the log-likelihood ratio of the maximum and the truth is χ², with a degree of freedom for each parameter (Wilks 1938)."""
    initial, transition, mean, sd = parameters(model)
    spread = vb.GaussianEmission(mean.mean() + 0.8 * (mean - mean.mean()), 1.3 * sd)
    start = vb.HiddenMarkov(initial, 0.8 * transition + 0.2 / len(initial), spread)
    found = vb.baum_welch(x, start, tolerance=1e-3)
    before, truth = (float(m.log_evidence(x)) for m in (start, model))
    return {
        "iterations": len(found.bound) - 1,
        "gained": found.log_evidence - before,
        "above_truth": found.log_evidence - truth,
    }


def measure(
    *, lengths: list[int], states: list[int], rounds: int, seconds: float, recursion_up_to: int, learnt_from: int
) -> pd.DataFrame:
    """Time and error for each problem and length of the chain, the time of the evidence by a sequential recursion, and where EM ends."""
    rows = []
    for number in states:
        model = chain(number)
        whole = model.sample(1, max(*lengths, learnt_from))[0]
        tasks = {}
        for length in lengths:
            x = whole[:, :length]
            tasks |= {(problem, "scan", length): task for problem, task in solved(model, x).items()}
            if length <= recursion_up_to:
                tasks["recognition", "recursion", length] = lambda x=x, m=model: log_evidence_by_recursion(*m.log_densities(x))  # fmt: skip
        off = {length: errors(model, whole[:, :length]) for length in lengths}
        for (problem, engine, length), (ms, se) in interleaved(tasks, rounds, seconds=seconds).items():
            row = {"problem": problem, "states": number, "steps": length, "engine": engine, "ms": ms, "ms_se": se}
            rows.append(row | ({"error": off[length][problem]} if engine == "scan" else {}))
        for length, found in off.items():
            more = {"error": found["best path"], "underflow": found["underflow"]}
            rows.append({"problem": "best path", "states": number, "steps": length, "engine": "scan"} | more)
        end = {"problem": "maximum", "states": number, "steps": learnt_from, "engine": "EM"}
        rows.append(end | learnt(model, whole[:, :learnt_from]))
    table = pd.DataFrame(rows)
    order = table.problem.map([*PROBLEMS, "best path", "maximum"].index)
    return table.assign(order=order).sort_values(["order", "states", "engine", "steps"], ascending=[True, True, False, True], kind="stable", ignore_index=True).drop(columns="order")  # fmt: skip


def growth(own: pd.DataFrame) -> tuple[float, float]:
    """The power of the length with which the time grows, from the two longest chains, and its standard error."""
    if len(own) < 2:
        return math.nan, math.nan
    before, last = own.sort_values("steps").iloc[-2:].itertuples()
    wide = math.log(last.steps / before.steps)
    return math.log(last.ms / before.ms) / wide, math.hypot(last.ms_se / last.ms, before.ms_se / before.ms) / wide


def slower(own: pd.DataFrame) -> tuple[float, float]:
    """The ratio of the times of recursion and scan on the longest chain measured with both, and its standard error."""
    loop = own[own.engine == "recursion"].sort_values("steps").iloc[-1]
    scan = own[(own.engine == "scan") & (own.steps == loop.steps)].iloc[0]
    ratio = loop.ms / scan.ms
    return ratio, ratio * math.hypot(loop.ms_se / loop.ms, scan.ms_se / scan.ms)


def degrees(states: int) -> int:
    """Number of free parameters: transition probabilities, means and standard deviations."""
    return states * (states - 1) + 2 * states


def maximum(row: pd.Series) -> bool:
    """Whether EM ends as far above the true parameters as a maximum should, by Wilks' theorem; the initial state, observed once, may add up to log S."""
    low, high = chi2.ppf([LUCK, 1 - LUCK], degrees(row.states)) / 2
    return bool(low < row.above_truth < high + math.log(row.states))


def verdict(table: pd.DataFrame) -> str:
    """Whether each problem is solved correctly and in linear time, up to the longest chain."""
    scan, ends = table[table.engine == "scan"], table[table.problem == "maximum"]
    longest = scan.steps.max()
    worst = scan.groupby("problem").error.max()
    checks: dict[str, bool | None] = {"the chain is long": bool(longest >= 100_000)}
    checks |= {
        f"{problem} is right": bool((scan[scan.problem == problem].error < RIGHT).all())
        for problem in (*PROBLEMS, "best path")
    }
    said = []
    for problem in PROBLEMS:
        powers, parts = [], []
        for states, own in scan[scan.problem == problem].groupby("states"):
            power, se = growth(own)
            powers.append(above(LINEAR - power, se))
            last = own.loc[own.steps.idxmax()]
            like = f" (like T^{power:.2f} ± {se:.2f})" if math.isfinite(power) else ""
            parts.append(f"{last.ms:,.0f} ± {last.ms_se:,.0f} ms with {states} states{like}")
        checks[f"the time of {problem} grows linearly"] = every(powers)
        said.append(f"{problem} takes {', '.join(parts)}")
    looped = table[table.engine == "recursion"].steps.max()
    ratios = [slower(own) for _, own in table[table.problem == "recognition"].groupby("states")] if looped > 0 else []
    if ratios:
        checks["a scan is quicker than the recursion"] = every(above(ratio, se, 1, sure=3) for ratio, se in ratios)
        times = ", ".join(f"{ratio:.0f} ± {se:.0f}" for ratio, se in ratios)
        said.append(f"step by step recognition takes {times} times as long at {looped:,} steps")
    checks["EM ends in a maximum"] = all(maximum(row) for _, row in ends.iterrows())
    return (
        f"{head(checks)}: of a chain of {longest:,} steps {'; '.join(said)}. Learning is an iteration of EM. "
        f"From scaled recursions in numpy the evidence is {worst.recognition:.0e} away (relative), "
        f"the posterior {worst.segmentation:.0e}, the best path's probability {worst['best path']:.0e}, and EM's parameters {worst.learning:.0e}, where plain probabilities are 0 after {table.underflow.max():.0f} steps. "
        f"EM on {ends.steps.max():,} steps gains {', '.join(f'{v:,.0f}' for v in ends.gained)} nats and ends {', '.join(f'{r.above_truth:.1f} (a maximum: {degrees(r.states) / 2:g} on the mean)' for r in ends.itertuples())} above the truth."
    )


def figure(table: pd.DataFrame) -> plt.Figure:
    number = sorted(table.states.unique())
    drawing, axes = plt.subplots(1, len(number) + 1, figsize=(4.2 * (len(number) + 1), 3.9), layout="constrained")
    for ax, states in zip(axes, number, strict=False):
        timed = table[(table.states == states) & table.ms.notna()]
        for (problem, engine), own in timed.groupby(["problem", "engine"], sort=False):
            line, label = ("-", problem) if engine == "scan" else (":", f"{problem}, sequential recursion")
            ax.errorbar(own.steps, own.ms, yerr=own.ms_se, color=PROBLEMS[problem], ls=line, marker="o", ms=4, label=label)  # fmt: skip
        top = timed[timed.steps == timed.steps.max()].ms.max()
        ends = timed.steps.max() / 10, timed.steps.max()
        ax.plot(ends, (top / 5, 2 * top), color="#888888", lw=1, ls="--", label="∝ T")
        ax.set(ylabel="time (ms, ± 1 SE)", title=f"{states} states: time")
    for problem, colour in {**PROBLEMS, "best path": "#E69F00"}.items():
        own = table[(table.problem == problem) & (table.engine == "scan")].groupby("steps").error.max()
        axes[-1].plot(own.index, own.clip(lower=1e-17), color=colour, marker="o", ms=4, label=problem)
    axes[-1].axhline(RIGHT, color="#444444", lw=1, ls="--", label="tolerance")
    axes[-1].set(ylabel="difference from a recursion in NumPy", title="Accuracy", ylim=(1e-17, 1e-4))
    for ax in axes:
        ax.set(xscale="log", yscale="log", xlabel="length T of the chain (steps)")
        ax.legend(frameon=False, fontsize=8)
        ax.grid(**GRID)
        ax.spines[["top", "right"]].set_visible(False)
    return drawing


experiment = vb.Experiment(
    question="Can the three problems of a hidden Markov model be solved on long chains: correctly, and in time linear in their length?",
    claim="Recognition, segmentation and learning (course, claims 4 to 6) for 100 000 steps take linear time; parallel scans of pairwise log-matrix products take a fraction of a "
    "recursion's time (Särkkä & García-Fernández 2021, arXiv:1905.13002), and give the same numbers.",
    measure=measure,
    full={
        "lengths": [100, 300, 1000, 3000, 10_000, 30_000, 100_000, 300_000],
        "states": [2, 4, 8],
        "rounds": 12,
        "seconds": 6.0,
        "recursion_up_to": 100_000,
        "learnt_from": 100_000,
    },
    quick={"lengths": [100, 1000, 10_000, 100_000], "states": [4], "rounds": 6, "seconds": 1.0, "recursion_up_to": 10_000, "learnt_from": 10_000},
    figure=figure,
    verdict=verdict,
    notes="One chain, Gaussian emissions, double precision; all tasks are measured in turn in every round; times are medians with standard errors. `error`: difference from scaled recursions in NumPy, relative for evidence and path, the largest one for the "
    "posterior and for the parameters after an iteration of EM. The scan's work grows with the cube of the number of states, the recursion's with the square, so many states favour the recursion.",
    sections=("problem", "states"),
)  # fmt: skip
