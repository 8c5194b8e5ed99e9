"""How many draws of simple noise does an average of a flexible function need?"""

from __future__ import annotations

import math
from collections.abc import Callable

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import torch
from answers import above, every, head, measured, not_above
from torch import Tensor

import vbayes as vb

ENOUGH = 0.2  # relative error
TRUTH = 200_000  # draws for expectations without a closed form


def network(j: int) -> Callable[[Tensor], Tensor]:
    """A random tanh network with a positive output, like a likelihood."""
    first = torch.randn(j, 32, dtype=torch.float64) / math.sqrt(j)
    second = torch.randn(32, dtype=torch.float64) / math.sqrt(32)
    return lambda z: torch.nn.functional.softplus(torch.tanh(z @ first) @ second)


FUNCTIONS: dict[str, Callable[[int], Callable[[Tensor], Tensor]]] = {
    "Σ z²": lambda j: lambda z: z.square().sum(-1),
    "network": network,
    "exp(Σ z/√J)": lambda j: lambda z: (z.sum(-1) / math.sqrt(j)).exp(),
    "max z²": lambda j: lambda z: z.square().amax(-1),
    "exp(Σ z/2)": lambda j: lambda z: (z.sum(-1) / 2).exp(),
    "all z > 0": lambda j: lambda z: (z > 0).all(-1).to(z.dtype),
}
SMOOTH = ("Σ z²", "network", "exp(Σ z/√J)", "max z²")  # sd(f) / E f stays bounded as J grows
OF_SQUARE = {"normal": 2.0, "uniform": 0.8}  # variance of z², whose mean is 1
BASES = {"normal": torch.randn, "uniform": lambda *size: math.sqrt(12) * (torch.rand(*size) - 0.5)}


def measure(*, dimensions: list[int], per_dimension: list[int], repeats: int) -> pd.DataFrame:
    """Root mean square error of averages over L = c J draws, relative to the truth, for several f, J and noise distributions.

    `exact` is this error in closed form, where there is one. If f is 0 at all draws, nothing was measured, and `error` is NaN.
    """
    rows = []
    for j in dimensions:
        for name, make in FUNCTIONS.items():
            f = make(j)
            for base, draw in BASES.items():
                truth = known(name, base, j) or float(f(draw(TRUTH, j).double()).mean())
                for each in per_dimension:
                    averages = f(draw(repeats, each * j, j).double()).mean(1)
                    squares = (averages / truth - 1).square()
                    error = math.sqrt(float(squares.mean())) if averages.any() else math.nan
                    se = float(squares.std()) / math.sqrt(repeats) / (2 * error or 1) if repeats > 1 else math.nan
                    rows.append(
                        {
                            "f": name,
                            "noise": base,
                            "J": j,
                            "L": each * j,
                            "per_dimension": each,
                            "error": error,
                            "error_se": se,
                            "exact": relative_sd(name, base, j) / math.sqrt(each * j),
                        }
                    )
    return pd.DataFrame(rows)


def known(name: str, noise: str, j: int) -> float | None:
    """E f in closed form; None if there is none."""
    closed = {
        "Σ z²": float(j),
        "exp(Σ z/√J)": transform(1 / math.sqrt(j), noise) ** j,
        "exp(Σ z/2)": transform(0.5, noise) ** j,
        "all z > 0": 0.5**j,
    }
    return closed.get(name)


def relative_sd(name: str, noise: str, j: int) -> float:
    """sd(f) / E f in closed form; NaN if there is none."""
    second = {"exp(Σ z/√J)": 1 / math.sqrt(j), "exp(Σ z/2)": 0.5}
    if name in second:
        t = second[name]
        return math.sqrt((transform(2 * t, noise) / transform(t, noise) ** 2) ** j - 1)
    return {"Σ z²": math.sqrt(OF_SQUARE[noise] / j), "all z > 0": math.sqrt(2.0**j - 1)}.get(name, math.nan)


def transform(t: float, noise: str) -> float:
    """The moment generating function E exp(t z) of one z."""
    return math.exp(t**2 / 2) if noise == "normal" else math.sinh(math.sqrt(3) * t) / (math.sqrt(3) * t)


def verdict(table: pd.DataFrame) -> str:
    """The verdict for five draws per dimension, from ten dimensions on."""
    five = table[(table.per_dimension == 5) & (table.J >= 10)]
    smooth, rest = five[five.f.isin(SMOOTH)], five[~five.f.isin(SMOOTH)]
    worst = smooth.sort_values("error").iloc[-1]
    good = every(above(ENOUGH - r.error, r.error_se) for r in smooth.itertuples())
    lawful = every(
        not_above(sign * (r.error - r.exact), r.error_se, within=r.exact / 2, sure=5)
        for r in table[table.f == "Σ z²"].itertuples()
        for sign in (1, -1)
    )
    bad = rest.groupby("f").exact.max()  # rare draws dominate, so measured errors are too small
    first = head(
        {f"five draws a dimension err by less than {ENOUGH:.0%}": good, "Σ z² errs by sd/√L": lawful},
        {"for every function": not (bad > 1).any()},
    )
    fails = "; ".join(f"{name}: {value:.2g}" for name, value in bad.items())
    return (
        f"{first}: from 10 dimensions on, L = 5J draws give averages of {', '.join(SMOOTH)} to within {measured(worst.error, worst.error_se, '.1%')} of the truth at worst ({worst.f}, "
        f"{worst.noise} noise, J = {worst.J}), with normal and uniform noise alike. It is no law: the relative error is sd(f) / (|E f| √L), and where sd(f) / |E f| grows "
        f"exponentially with the dimensions, it passes any bound (relative error, in closed form, {fails})."
    )


def figure(table: pd.DataFrame) -> plt.Figure:
    names = list(dict.fromkeys(table.f))
    drawing, axes = plt.subplots(
        2, -(-len(names) // 2), figsize=(12, 6.4), layout="constrained", sharex=True, sharey=True
    )
    for ax, name in zip(axes.flat, names, strict=False):
        for number, (j, own) in enumerate(table[(table.f == name) & (table.noise == "normal")].groupby("J")):
            shade = plt.get_cmap("viridis")(0.9 * number / max(1, table.J.nunique() - 1))
            ax.errorbar(own.L, own.error, yerr=own.error_se, marker="o", ms=4, color=shade, label=f"J = {j}")
            ax.plot(own.L, own.exact, ":", color=shade)
            five = own[own.per_dimension == 5]
            ax.plot(five.L, five.error, "o", ms=11, mfc="none", mec="#D55E00")
        ax.axhline(ENOUGH, color="#888888", lw=1, ls="--", label=f"{ENOUGH:.0%}")
        ax.set_xscale("log")
        ax.set_yscale("log")
        ax.set_title(f"f = {name}", loc="left", fontsize=11)
        ax.grid(alpha=0.25)
        ax.spines[["top", "right"]].set_visible(False)
    for ax in axes[-1]:
        ax.set_xlabel("number of draws L (ringed: L = 5J)")
    for ax in axes[:, 0]:
        ax.set_ylabel("relative RMS error of the average")
    axes.flat[0].legend(frameon=False, fontsize=9)
    assert np.isfinite(table.error[table.f.isin(SMOOTH)]).all()
    return drawing


experiment = vb.Experiment(
    question="How many draws of simple noise does an average of a flexible function need?",
    claim="Averages over normal or uniform noise approach the truth quickly, even for L ≈ 5J (course, claim 12).",
    measure=measure,
    full={"dimensions": [1, 2, 5, 10, 20, 50], "per_dimension": [1, 2, 5, 10, 20], "repeats": 4000},
    quick={"dimensions": [2, 10, 30], "per_dimension": [1, 5, 10], "repeats": 3000},
    figure=figure,
    verdict=verdict,
    notes="Errors are relative to the truth. Dashed: a fifth. Dotted: the error in closed form, where there is one; measured errors miss the contribution of rare draws, and are NaN if f was 0 at all draws.",
    summary=lambda table: table[table.per_dimension == 5].drop(columns=["per_dimension"]),
    sections=("f",),
)
