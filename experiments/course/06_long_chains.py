"""What does the evidence of a hidden Markov model cost as its chain gets longer, step by step and by a parallel scan?"""

from __future__ import annotations

import matplotlib.pyplot as plt
import pandas as pd
import torch
from answers import above, head

import vbayes as vb
from vbayes.exact.hidden_markov import log_evidence, log_evidence_by_recursion
from vbayes.laboratory.timing import interleaved
from vbayes.plots.palette import GRID

ENGINES = {"scan": log_evidence, "recursion": log_evidence_by_recursion}
COLOURS = {"scan": "#0072B2", "recursion": "#D55E00"}


def chain(states: int) -> vb.HiddenMarkov:
    """States that last some ten steps, a standard deviation apart; double precision."""
    moves = torch.full((states, states), 0.1 / (states - 1), dtype=torch.float64).fill_diagonal_(0.9)
    mean = torch.arange(states, dtype=torch.float64)
    first = torch.full((states,), 1 / states, dtype=torch.float64)
    return vb.HiddenMarkov(first, moves, vb.GaussianEmission(mean, torch.ones_like(mean)))


def measure(
    *, lengths: list[int], states: list[int], rounds: int, seconds: float, longest_gradient: int
) -> pd.DataFrame:
    """Time of one evidence, and of one with its gradient, and how far the two ways are apart."""
    rows = []
    for number in states:
        model = chain(number)
        for length in lengths:
            x, _ = model.sample(1, length)
            given = model.log_densities(x)

            def gradient(engine, given=given) -> torch.Tensor:
                emission = given[2].clone().requires_grad_()
                return torch.autograd.grad(engine(*given[:2], emission).sum(), emission)[0]

            tasks = {("evidence", name): (lambda e=e, g=given: e(*g)) for name, e in ENGINES.items()}
            if length <= longest_gradient:
                tasks |= {("with gradient", name): (lambda e=e, g=gradient: g(e)) for name, e in ENGINES.items()}
            taken = interleaved(tasks, rounds, seconds=seconds)
            right = log_evidence_by_recursion(*given)
            apart = {name: float(((e(*given) - right) / right).abs().max()) for name, e in ENGINES.items()}
            for (what, name), (ms, se) in taken.items():
                rows.append((what, number, length, name, ms, se, apart[name]))
    table = pd.DataFrame(rows, columns=["what", "states", "steps", "engine", "ms", "ms_se", "relative_error"])
    return table.sort_values(["what", "states", "steps"], kind="stable", ignore_index=True)


def times(part: pd.DataFrame) -> tuple[float, float]:
    """How many times as long the recursion takes as the scan, with its standard error; one length, one number of states."""
    at = part.set_index("engine")
    scan, loop = at.loc["scan"], at.loc["recursion"]
    ratio = loop.ms / scan.ms
    return ratio, ratio * ((loop.ms_se / loop.ms) ** 2 + (scan.ms_se / scan.ms) ** 2) ** 0.5


def verdict(table: pd.DataFrame) -> str:
    """At the longest chain of each number of states: the scan's time, and how many times that of the recursion."""
    longest = table[table.what == "evidence"].steps.max()
    checks: dict[str, bool | None] = {
        "the chain is long": bool(longest >= 100_000),
        "the two agree": bool((table.relative_error < 1e-9).all()),
    }
    said = []
    for (what, states), part in table.groupby(["what", "states"], sort=False):
        part = part[part.steps == part.steps.max()]
        ratio, se = times(part)
        scan = part.set_index("engine").loc["scan"]
        of = "" if what == "evidence" else f" and its gradient at {part.steps.max():,} steps"
        said.append(f"{states} states{of}: {scan.ms:,.0f} ± {scan.ms_se:.1g} ms, the recursion {ratio:.3g} ± {se:.1g} times as long")  # fmt: skip
        if what == "evidence":
            checks[f"below a second with {states} states"] = above(1000 - scan.ms, scan.ms_se, sure=3)
            checks[f"quicker than the recursion with {states} states"] = above(ratio, se, 1, sure=3)
    return (
        f"{head(checks)}: the scan's time for the evidence of {longest:,} steps. {'; '.join(said)}. "
        f"The two agree to a relative {table.relative_error.max():.1g}."
    )


def figure(table: pd.DataFrame) -> plt.Figure:
    number = sorted(table.states.unique())
    drawing, axes = plt.subplots(1, len(number), figsize=(3.9 * len(number) + 0.6, 3.8), layout="constrained", sharey=True, squeeze=False)  # fmt: skip
    for ax, states in zip(axes[0], number, strict=True):
        for (what, engine), own in table[table.states == states].groupby(["what", "engine"], sort=False):
            line = "-" if what == "evidence" else ":"
            label = engine + ("" if what == "evidence" else ", with gradient")
            ax.errorbar(
                own.steps, own.ms, yerr=own.ms_se, color=COLOURS[engine], ls=line, marker="o", ms=4, label=label
            )
        ax.set(xscale="log", yscale="log", xlabel="steps of the chain", title=f"{states} states")
        ax.grid(**GRID)
        ax.spines[["top", "right"]].set_visible(False)
    axes[0, 0].set_ylabel("time of one evidence (ms)")
    axes[0, 0].legend(frameon=False, fontsize=8)
    return drawing


experiment = vb.Experiment(
    question="What does the evidence of a hidden Markov model cost as its chain gets longer, step by step and by a parallel scan?",
    claim="A scan of pairwise log-matrix products takes well below a second for 100 000 steps, a fraction of the recursion's time, and gives the same "
    "number (Särkkä & García-Fernández 2021, arXiv:1905.13002).",
    measure=measure,
    full={
        "lengths": [10, 30, 100, 300, 1000, 3000, 10_000, 30_000, 100_000],
        "states": [2, 4, 8],
        "rounds": 12,
        "seconds": 6.0,
        "longest_gradient": 10_000,
    },
    quick={"lengths": [10, 100, 1000, 100_000], "states": [4], "rounds": 5, "seconds": 1.0, "longest_gradient": 1000},
    figure=figure,
    verdict=verdict,
    notes="One chain, Gaussian emissions, double precision; each engine in turn in every round, median and its standard error. The scan's work grows with "
    "the cube of the number of states, the recursion's with the square: many states are the recursion's case.",
    sections=("what", "states"),
)  # fmt: skip
