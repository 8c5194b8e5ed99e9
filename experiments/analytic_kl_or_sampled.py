"""Does the KL in closed form make gradients quieter than a sampled one, in any dimension and to the end of a training?"""

from __future__ import annotations

import matplotlib.pyplot as plt
import pandas as pd

import vbayes as vb
from vbayes.plots import over

NAMES = ("pathwise", "analytic_kl", "stl")


def measure(*, dimensions: list[int], replicas: int, epochs: int) -> pd.DataFrame:
    """Variance of three treatments of the KL for VAEs of the digits with several numbers of latents."""

    def comparison(dimension: float) -> vb.Comparison:
        return vb.compare(
            vb.pairs.vae(latent=int(dimension)), vb.data.digits(), NAMES, epochs=epochs, batch_size=100, learning_rate=1e-3,
            replicas=replicas, compile=True,
        )  # fmt: skip

    table = vb.compare_over("latents", dimensions, comparison).to_dataframe()
    whole = table[table.group == "all"]
    return whole[
        [
            "latents",
            "at",
            "estimator",
            "variance",
            "variance_se",
            "snr",
            "snr_se",
            "bias_z",
            "ms_per_gradient",
            "group",
        ]
    ]


def ratios(table: pd.DataFrame) -> pd.DataFrame:
    """Variance of the others in that of the analytic KL, by dimension and place."""
    wide = table.pivot_table(index=["latents", "at"], columns="estimator", values="variance", sort=False)
    return wide.div(wide["analytic_kl"], axis=0).reset_index()


def verdict(table: pd.DataFrame) -> str:
    found = ratios(table)
    start, end = (found[found["at"] == at] for at in ("start", "end"))
    against_path = bool((found.pathwise > 1).all())
    against_stl = bool((found.stl > 1).all())
    said = ", ".join(
        f"{a.latents} latents: {a.pathwise:.2g}× → {b.pathwise:.2g}×, {a.stl:.2g}× → {b.stl:.2g}×"
        for a, b in zip(start.itertuples(), end.itertuples(), strict=True)
    )
    head = (
        "Holds"
        if against_path and against_stl
        else "Holds against the plain sample only"
        if against_path
        else "Fails here"
    )
    return (
        f"{head}: the variance of the sampled KL and of sticking the landing, in that of the analytic KL, from start to end of the training: {said}."
        + (
            ""
            if against_stl
            else " Near the optimum, sampling the KL along with the likelihood lets their noise cancel, if the score term is left out."
        )
    )


def figure(table: pd.DataFrame) -> plt.Figure:
    places = list(dict.fromkeys(table["at"]))
    drawing, axes = plt.subplots(
        1, len(places), figsize=(4 * len(places) + 1.5, 3.8), layout="constrained", sharey=True
    )
    for ax, at in zip(axes, places, strict=True):
        over(table, ax, at=at)
        ax.set_title(at, loc="left", fontsize=11)
        if ax is not axes[-1]:
            ax.get_legend().remove()
        if ax is not axes[0]:
            ax.set_ylabel("")
    return drawing


experiment = vb.Experiment(
    question="Does the KL in closed form make gradients quieter than a sampled one, in any dimension and to the end of a training?",
    claim="Yes: only the likelihood is left to sample (Kingma & Welling 2013, arXiv:1312.6114, eq. 10); but near the optimum sticking the landing is quieter still "
    "(Roeder, Wu & Duvenaud 2017, arXiv:1703.09194).",
    measure=measure,
    full={"dimensions": [2, 8, 32], "replicas": 2000, "epochs": 200},
    quick={"dimensions": [2, 8, 32], "replicas": 500, "epochs": 20},
    figure=figure,
    verdict=verdict,
    notes="Variance is that over the draws of z, one minibatch of 100 held fixed.",
    summary=lambda table: table.drop(columns=["variance_se", "snr_se", "group"]),
    sections=("latents", "at"),
)
