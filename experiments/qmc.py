"""Do antithetic and quasi-random draws beat independent ones, and how does that grow with the number of particles?"""

from __future__ import annotations

import math

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd

import vbayes as vb
from vbayes.plots.palette import GRID, style

KINDS = {
    "iid": ("independent", "#7F7F7F", "o"),
    "antithetic": ("antithetic pairs", "#E69F00", "s"),
    "sobol": ("scrambled Sobol", "#0072B2", "D"),
}


def measure(*, particles: list[int], replicas: int, steps: int, estimators: list[str]) -> pd.DataFrame:
    """Variance of the gradient for eight schools at the end of a fit, by estimator, kind of noise and number of particles."""
    data = vb.data.eight_schools()
    fitted = vb.fit(vb.pairs.eight_schools(), data, steps=steps, learning_rate=0.02, progress=False)
    made = {
        f"{name}/{kind}/{k}": vb.ESTIMATORS[name](k, noise=kind)
        for name in estimators
        for kind in KINDS
        for k in particles
    }
    result = vb.compare(fitted.pair, data, made, at={"end": fitted}, replicas=replicas, compile=True)
    table = result.to_dataframe()
    table = table[table.group == "all"]
    parts = table.estimator.str.split("/", expand=True)
    table = table.assign(estimator=parts[0], noise=parts[1], particles=parts[2].astype(int))
    return table[
        ["estimator", "noise", "particles", "variance", "variance_se", "ms_per_gradient", "variance_time", "bias_z"]
    ]


def rates(table: pd.DataFrame) -> pd.Series:
    """Slope of log variance on log K for each estimator and kind of noise."""
    found = {}
    for key, own in table.groupby(["estimator", "noise"], sort=False):
        x, y, w = np.log(own.particles), np.log(own.variance), (own.variance / own.variance_se) ** 2
        x = x - np.average(x, weights=w)
        found[key] = float((w * x * y).sum() / (w * x**2).sum())
    return pd.Series(found)


def verdict(table: pd.DataFrame) -> str:
    most, said = table.particles.max(), []
    at = table[table.particles == most].set_index(["estimator", "noise"])
    wins = []
    for name in dict.fromkeys(table.estimator):
        plain = at.loc[(name, "iid")]
        for kind in ("antithetic", "sobol"):
            own = at.loc[(name, kind)]
            ratio = plain.variance / own.variance
            se = ratio * math.hypot(plain.variance_se / plain.variance, own.variance_se / own.variance)
            wins.append(ratio > 1 + 2 * se)
            said.append(
                f"{name}: {kind} draws divide the variance by {ratio:.1f} ± {se:.1f}, with a rate of K^{rates(table)[(name, kind)]:.2f}"
            )
    worst = table.bias_z.abs().max()
    head = "Holds" if all(wins) else "Holds in part"
    return (
        f"{head}, with {most} particles: " + "; ".join(said) + f". No bias is seen (largest |z| {worst:.1f})."
        if worst < 4
        else f"Biased: |z| up to {worst:.1f}."
    )


def figure(table: pd.DataFrame) -> plt.Figure:
    names = list(dict.fromkeys(table.estimator))
    drawing, axes = plt.subplots(1, len(names), figsize=(4.6 * len(names), 4), layout="constrained", squeeze=False)
    for ax, name in zip(axes[0], names, strict=True):
        for kind, (label, colour, marker) in KINDS.items():
            own = table[(table.estimator == name) & (table.noise == kind)]
            ax.errorbar(
                own.particles,
                own.variance,
                yerr=own.variance_se,
                label=label,
                color=colour,
                marker=marker,
                lw=1.4,
                ms=6,
                mec="white",
                mew=0.5,
            )
        counts = sorted(set(table.particles))
        ax.set(xscale="log", yscale="log", xlabel="particles K", title=style(name, names)[0])
        ax.set_xticks(counts, counts)
        ax.minorticks_off()
        ax.grid(**GRID)
        ax.spines[["top", "right"]].set_visible(False)
    axes[0, 0].set_ylabel("variance of the gradient (nats²)")
    axes[0, 0].legend(frameon=False)
    return drawing


experiment = vb.Experiment(
    question="Do antithetic and quasi-random draws beat independent ones, and how does that grow with the number of particles?",
    claim="With independent draws the variance falls like 1/K; with scrambled Sobol points it falls faster (Buchholz, Wenzel & Mandt 2018, arXiv:1807.01604).",
    measure=measure,
    full={
        "particles": [1, 2, 4, 8, 16, 32],
        "replicas": 20_000,
        "steps": 5000,
        "estimators": ["pathwise", "analytic_kl", "stl"],
    },
    quick={"particles": [2, 8, 32], "replicas": 2_000, "steps": 2000},
    figure=figure,
    verdict=verdict,
    notes="Eight schools with AutoNormal at the end of a fit; all parameters together.",
)
