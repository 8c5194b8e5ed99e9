"""Does the KL in closed form give less gradient noise than a sampled one, in any dimension and to the end of training?"""

from __future__ import annotations

import math
from typing import Any

import matplotlib.pyplot as plt
import pandas as pd
from course.answers import above, every, head

import vbayes as vb
from vbayes.plots import over

NAMES = ("pathwise", "analytic_kl", "stl")


def measure(*, dimensions: list[int], replicas: int, epochs: int) -> pd.DataFrame:
    """Gradient variance under three treatments of the KL, for VAEs of the digits with different numbers of latents."""

    def comparison(dimension: float) -> vb.Comparison:
        return vb.compare(
            vb.pairs.vae(latent=int(dimension)), vb.data.digits(), NAMES, epochs=epochs, batch_size=100, learning_rate=1e-3,
            replicas=replicas, compile=True,
        )  # fmt: skip

    table = vb.compare_over("latents", dimensions, comparison).to_dataframe()
    whole = table[table.group == "all"]
    return whole[
        ["latents", "at", "estimator", "variance", "variance_se", "snr", "snr_se", "bias_z", "ms_per_gradient", "group"]
    ]


def ratios(table: pd.DataFrame) -> pd.DataFrame:
    """Variances of the other estimators relative to the analytic KL's, by dimension and point of training.

    The errors treat the estimators as independent; the common noise that they share would make them smaller.
    """
    rows = table.set_index(["latents", "at", "estimator"])
    found = []
    for latents, at in dict.fromkeys(zip(table.latents, table["at"], strict=True)):
        ours = rows.loc[(latents, at, "analytic_kl")]
        row = {"latents": latents, "at": at}
        for name in ("pathwise", "stl"):
            other = rows.loc[(latents, at, name)]
            row[name] = other.variance / ours.variance
            errors = other.variance_se / other.variance, ours.variance_se / ours.variance
            row[f"{name}_se"] = row[name] * math.hypot(*errors)
        found.append(row)
    return pd.DataFrame(found)


def verdict(table: pd.DataFrame) -> str:
    """Both halves of the claim; each must hold by two standard errors in every dimension."""
    found = ratios(table)
    start, end = (found[found["at"] == at] for at in ("start", "end"))
    quieter = every(above(r.pathwise, r.pathwise_se, 1) for r in found.itertuples())
    landing = every(above(1 - r.stl, r.stl_se) for r in end.itertuples())
    first = head(
        {"than the plain sample the analytic KL is quieter everywhere": quieter},
        {"at the end sticking the landing is quieter still": landing},
    )
    said = ", ".join(
        f"{a.latents} latents: {_of(a, 'pathwise')} → {_of(b, 'pathwise')}, {_of(a, 'stl')} → {_of(b, 'stl')}"
        for a, b in zip(start.itertuples(), end.itertuples(), strict=True)
    )
    text = f"{first}: variance of the plain sample, and of sticking the landing, in that of the analytic KL, from start to end: {said}."
    if landing is True:
        text += " Near the optimum the noise of a sampled KL and that of the likelihood cancel, once the score term is left out."
    return text


def _of(row: Any, name: str) -> str:
    return f"{getattr(row, name):.2f} ± {getattr(row, f'{name}_se'):.2f}"


def figure(table: pd.DataFrame) -> plt.Figure:
    points = list(dict.fromkeys(table["at"]))
    drawing, axes = plt.subplots(
        1, len(points), figsize=(4 * len(points) + 1.5, 3.8), layout="constrained", sharey=True
    )
    for ax, at in zip(axes, points, strict=True):
        over(table, ax, at=at)
        ax.set_title(at, loc="left", fontsize=11)
        if ax is not axes[-1]:
            ax.get_legend().remove()
        if ax is not axes[0]:
            ax.set_ylabel("")
    return drawing


experiment = vb.Experiment(
    question="Does the KL in closed form give less gradient noise than a sampled one, in any dimension and to the end of training?",
    claim="Yes: only the likelihood is left to sample (Kingma & Welling 2013, arXiv:1312.6114, eq. 10); but near the optimum sticking the landing has even less noise "
    "(Roeder, Wu & Duvenaud 2017, arXiv:1703.09194).",
    measure=measure,
    full={"dimensions": [2, 8, 32], "replicas": 2000, "epochs": 200},
    quick={"dimensions": [2, 8, 32], "replicas": 500, "epochs": 20},
    figure=figure,
    verdict=verdict,
    notes="The variance is over the draws of z, with one fixed minibatch of 100.",
    summary=lambda table: table.drop(columns=["variance_se", "snr_se", "group"]),
    sections=("latents", "at"),
)
