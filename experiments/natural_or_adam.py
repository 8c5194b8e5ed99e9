"""What should turn a gradient into a step: Adam, the Fisher metric, or scores at draws?"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pyro
import pyro.distributions as dist
import torch
from course.answers import every, head
from pyro.infer.autoguide import AutoMultivariateNormal
from torch import Tensor

import vbayes as vb
from vbayes import rng
from vbayes.guides.whitened import density_of
from vbayes.plots.palette import GRID
from vbayes.training.fit_run import FitRun

DRAWS = 8  # per gradient estimate, and scores per step
NEAR = 0.05  # nats above the lowest KL that any method reached
ROWS, COEFFICIENTS = 200, 10
LOOK = 4096  # draws for measuring the ELBO, the same for all methods
FLOOR = 1e-4  # lowest KL in the figure

ANTITHETIC = vb.STL(DRAWS, noise="antithetic")
METHODS: dict[str, tuple[Any, dict[str, Any], str]] = {
    "Adam 0.01": (ANTITHETIC, {"learning_rate": 0.01}, "#7F7F7F"),
    "Adam 0.05": (ANTITHETIC, {"learning_rate": 0.05}, "#000000"),
    "natural gradient": (ANTITHETIC, {"update": vb.NaturalGradient(0.1)}, "#0072B2"),
    "natural gradient, pathwise": (vb.Pathwise(DRAWS), {"update": vb.NaturalGradient(0.1)}, "#56B4E9"),
    "natural gradient, free": (ANTITHETIC, {"update": vb.NaturalGradient(0.3, max_kl=math.inf)}, "#CC79A7"),
    "batch and match": (None, {"update": vb.BatchAndMatch(DRAWS)}, "#D55E00"),
    "batch and match, 32 draws": (None, {"update": vb.BatchAndMatch(4 * DRAWS)}, "#E69F00"),
    "score matching": (None, {"update": vb.ScoreMatching(DRAWS)}, "#009E73"),
}


def design() -> Tensor:
    """Correlated columns of different scales."""
    stream = torch.Generator().manual_seed(0)
    mixed = torch.randn(ROWS, COEFFICIENTS, generator=stream) @ torch.randn(
        COEFFICIENTS, COEFFICIENTS, generator=stream
    )
    return mixed * torch.logspace(-0.5, 0.5, COEFFICIENTS) / COEFFICIENTS**0.5


def linear(x: Tensor, y: Tensor) -> None:
    w = pyro.sample("w", dist.Normal(torch.zeros(COEFFICIENTS), 1.0).to_event(1))
    with pyro.plate("data", len(x)):
        pyro.sample("y", dist.Normal(x @ w, 1.0), obs=y)


def logistic(x: Tensor, y: Tensor) -> None:
    w = pyro.sample("w", dist.Normal(torch.zeros(COEFFICIENTS), 1.0).to_event(1))
    with pyro.plate("data", len(x)):
        pyro.sample("y", dist.Bernoulli(logits=x @ w), obs=y)


def problems() -> dict[str, tuple[Callable[..., None], vb.Dataset]]:
    x, stream = design(), torch.Generator().manual_seed(1)
    signal = x @ torch.randn(COEFFICIENTS, generator=stream)
    noisy = signal + torch.randn(ROWS, generator=stream)
    heads = (torch.rand(ROWS, generator=stream) < signal.sigmoid()).float()
    return {
        "linear": (linear, vb.Dataset({"x": x, "y": noisy})),
        "logistic": (logistic, vb.Dataset({"x": x, "y": heads})),
        "eight_schools": (vb.pairs.eight_schools().model, vb.data.eight_schools()),
    }


def log_evidence(problem: str, density: Any, data: vb.Dataset, model: Callable[..., None]) -> float:
    """Exact for linear regression (closed form) and for eight schools (a grid over μ and log τ); for logistic regression by draws, to some thousandths of a nat."""
    columns = {name: column.double() for name, column in data.tensors.items()}
    y = columns["y"]
    if problem == "linear":
        covariance = torch.eye(ROWS, dtype=torch.float64) + columns["x"] @ columns["x"].T
        return float(dist.MultivariateNormal(torch.zeros_like(y), covariance).log_prob(y))
    if problem == "eight_schools":
        mu, log_tau = (
            torch.linspace(-40, 40, 801, dtype=torch.float64),
            torch.linspace(-12, 8, 2001, dtype=torch.float64),
        )
        spread = (log_tau.exp().square()[:, None] + columns["sigma"].square()).sqrt()  # (T, 8)
        log_p = torch.stack([dist.Normal(m, spread).log_prob(y).sum(1) + dist.Normal(0.0, 5.0).log_prob(m) for m in mu])
        log_p = log_p + dist.HalfCauchy(5.0).log_prob(log_tau.exp()) + log_tau
        return float(log_p.flatten().logsumexp(0) + torch.log((mu[1] - mu[0]) * (log_tau[1] - log_tau[0])))
    found = vb.fit(model, data, guide="full", steps=0, progress=False).pair.guide
    wide = dist.MultivariateNormal(found.centre.double(), scale_tril=found.root.double())
    with vb.seeded(0):
        draws = wide.sample((200_000,))
    return float((density.many(draws) - wide.log_prob(draws)).logsumexp(0) - math.log(len(draws)))


def kl_of(pair: vb.Pair, density: Any, evidence: float) -> float:
    """KL(q ‖ p) in nats, estimated with the same draws for all methods."""
    loc, scale, tril = (
        pair.constrained()[f"AutoMultivariateNormal.{name}"].double() for name in ("loc", "scale", "scale_tril")
    )
    q = dist.MultivariateNormal(loc, scale_tril=scale[:, None] * tril)
    half = torch.randn(LOOK // 2, len(loc), generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    draws = loc + torch.cat([half, -half]) @ q.scale_tril.T
    return evidence - float((density.many(draws) - q.log_prob(draws)).mean())


class Clock:
    """CPU seconds that an engine's steps take, without the evaluations in between."""

    def __init__(self, engine: Any) -> None:
        self.seconds, self._take = 0.0, engine.take
        engine.take = self

    def __call__(self, count: int) -> Any:
        began = time.process_time()
        values = self._take(count)
        self.seconds += time.process_time() - began
        return values


def measure(*, steps: int, seeds: int, problem: list[str]) -> pd.DataFrame:
    """KL and CPU seconds at several points of each run; compilation does not count."""
    rows = []
    looks = sorted({int(step) for step in np.geomspace(1, steps, 6 * int(math.log10(steps)) + 1).round()})
    for name in problem:
        model, data = problems()[name]
        pair = vb.Pair(model, AutoMultivariateNormal(model), name=name)
        density = density_of(model, data.batch(pair.model).args, {})
        evidence = log_evidence(name, density, data, model)
        for method, (estimator, options, _) in METHODS.items():
            for seed in rng.children(vb.default_seed(), seeds):
                fresh = vb.fit(pair, data, estimator, steps=0, compile=True, progress=False, seed=seed, **options)
                run = FitRun(fresh, staged=True, prepared=True)
                run.rehearse()
                clock = Clock(run.stands[0])
                for look in looks:
                    run.go(look)
                    kl = kl_of(run.pair, density, evidence) if not run.failure else math.inf
                    rows.append((name, method, seed, look, kl, clock.seconds, run.engine))
    return pd.DataFrame(rows, columns=["problem", "method", "seed", "step", "kl", "seconds", "engine"])


def arrivals(table: pd.DataFrame) -> pd.DataFrame:
    """For each problem and method: steps and milliseconds until the median run is, and stays, within .05 nats of the best KL; the final KL; milliseconds per step."""
    middle = table.groupby(["problem", "method", "step"], sort=False)[["kl", "seconds"]].median().reset_index()
    best = middle.groupby("problem").kl.min()
    rows = []
    for (problem, method), own in middle.groupby(["problem", "method"], sort=False):
        late = own[own.kl > max(best[problem], 0.0) + NEAR]
        after = own[own.step > (late.step.max() if len(late) else 0)]
        there = after.iloc[0] if len(after) else None
        last = own.iloc[-1]
        rows.append(
            (
                problem,
                method,
                math.inf if there is None else there.step,
                math.inf if there is None else 1e3 * there.seconds,
                last.kl,
                1e3 * last.seconds / last.step,
            )  # fmt: skip
        )
    return pd.DataFrame(rows, columns=["problem", "method", "steps", "ms", "kl", "ms_per_step"])


def summary(table: pd.DataFrame) -> pd.DataFrame:
    """`arrivals`, with "never" for runs that did not arrive."""
    found = arrivals(table)
    return found.assign(
        **{name: [f"{v:,.4g}" if math.isfinite(v) else "never" for v in found[name]] for name in ("steps", "ms")}
    )


def verdict(table: pd.DataFrame) -> str:
    found = arrivals(table)
    said, sooner = [], []
    for problem, own in found.groupby("problem", sort=False):
        at = own.set_index("method")
        adam = at[at.index.str.startswith("Adam")]
        natural = at.loc["natural gradient"]
        match = at[at.index.str.startswith("batch")]
        sooner.append(
            bool(natural.steps < adam.steps.min()) if table.seed.nunique() > 1 else None
        )  # one seed can't tell
        families = {
            "Adam": adam,
            "batch and match": match,
            **{name: at.loc[[name]] for name in ("natural gradient", "score matching")},
        }
        parts = [f"{name} {_arrived(part)}" for name, part in families.items()]
        first = own.loc[own.ms.idxmin(), "method"]
        said.append(
            f"{problem} (best KL {max(own.kl.min(), 0.0):.2g}): {'; '.join(parts)}; soonest by the clock: {first}"
        )
    return (
        f"{head({'natural gradients are there before Adam': every(sooner)})}: until within {NEAR} nats of the best KL, "
        + ". ".join(said)
        + "."
    )


def _arrived(part: pd.DataFrame) -> str:
    """The fewest steps and the shortest time among some methods, in words."""
    return "never" if math.isinf(part.steps.min()) else f"after {part.steps.min():g} steps and {part.ms.min():.3g} ms"


def figure(table: pd.DataFrame) -> plt.Figure:
    names = list(dict.fromkeys(table.problem))
    drawing, axes = plt.subplots(
        2, len(names), figsize=(4 * len(names), 6.4), layout="constrained", squeeze=False, sharey="col"
    )
    middle = table.groupby(["problem", "method", "step"], sort=False)[["kl", "seconds"]].median().reset_index()
    for column, name in enumerate(names):
        for row, (axis, label) in enumerate((("step", "steps"), ("seconds", "CPU seconds"))):
            ax = axes[row][column]
            for method, own in middle[middle.problem == name].groupby("method", sort=False):
                kl = own.kl.replace(math.inf, math.nan).clip(lower=FLOOR)
                ax.plot(own[axis], kl, color=METHODS[method][2], label=method, lw=1.5, marker="o", ms=3)
            ax.set(xscale="log", yscale="log", xlabel=label, title=name.replace("_", " ") if row == 0 else "")
            ax.grid(**GRID)
            ax.spines[["top", "right"]].set_visible(False)
        axes[0][0].set_ylabel("KL(q‖p), nats")
        axes[1][0].set_ylabel("KL(q‖p), nats")
    drawing.legend(*axes[0][0].get_legend_handles_labels(), loc="outside lower center", ncols=4, frameon=False)
    return drawing


experiment = vb.Experiment(
    question="What should turn a gradient into a step: Adam, the Fisher metric, or scores at draws?",
    claim="For a full-rank normal guide, natural gradients need fewer steps than Adam at the better of its two learning rates.",
    measure=measure,
    full={"steps": 2000, "seeds": 3, "problem": ["linear", "logistic", "eight_schools"]},
    quick={"steps": 300, "seeds": 2},
    figure=figure,
    verdict=verdict,
    notes=f"AutoMultivariateNormal from its default initial values (sds of .1), {DRAWS} draws per step; KL from the exact evidence and {LOOK} draws. Times are CPU times on one thread, without "
    "compilation. 'free' has rate .3 and no max_kl.",
    sections=("problem",),
    tasks=("problem",),
    summary=summary,
)
