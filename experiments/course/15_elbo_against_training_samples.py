"""Kingma & Welling's figure 2: does the ELBO rise quickly, and do more latents overfit?"""

from __future__ import annotations

import functools
from typing import Any

import matplotlib.pyplot as plt
import pandas as pd
import torch
from answers import above, every, head, not_above
from pictures import split

import vbayes as vb

LITTLE = 0.05  # fraction of the ELBO that may be lost
START = 0.1  # standard deviation of the initial parameters: N(0, 0.01)
DECAYING = functools.partial(torch.optim.Adagrad, weight_decay=1.0)  # MAP under N(0, I), as the ELBO is for all data
PAPER: dict[str, dict[str, Any]] = {
    "digits": {"hidden": 64, "output": "bernoulli"},
    "mnist": {"hidden": 500, "output": "bernoulli"},
    "frey_face": {"hidden": 200, "output": "gaussian"},
}


def measure(*, data: str, latents: list[int], samples: list[int], learning_rate: float) -> pd.DataFrame:
    """ELBO per datum on training and held-out data, after different numbers of evaluated training samples."""
    train, held = split(data)
    x, new = train.first, held.first
    rows = []
    for latent in latents:
        pair = vb.pairs.vae(x.shape[1], latent=latent, **PAPER[data]).initialise(vb.Batch((x[:100],)))
        pair.load({name: START * torch.randn_like(value) for name, value in pair.parameters.items()})
        fit = vb.fit(pair, x, steps=0, batch_size=100, optimizer=DECAYING, learning_rate=learning_rate, progress=False)
        for count in samples:
            fit = fit.resume(steps=max(0, count // 100 - fit.steps), progress=False)
            for part, rows_of in (("train", x[: len(new)]), ("held out", new)):
                elbo = vb.log_evidence(fit, rows_of, method="elbo", num_particles=20, progress=False)
                rows.append(
                    {
                        "data": data,
                        "latents": latent,
                        "samples": count,
                        "part": part,
                        "elbo_per_datum": elbo.value / elbo.rows,
                        "se": elbo.per_datum.std() / elbo.rows**0.5,
                    }
                )
    return pd.DataFrame(rows)


def verdict(table: pd.DataFrame) -> str:
    held = table[table["part"] == "held out"]
    last = held[held.samples == held.samples.max()].set_index("latents").sort_index()
    best = held.groupby("latents").elbo_per_datum.max()
    lost = best - last.elbo_per_datum  # by training on
    many, few = last.index.max(), last.index.min()
    first = held[(held.latents == many) & (held.samples == held.samples.min())].iloc[0]
    rises = float(last.elbo_per_datum[many] - first.elbo_per_datum)
    little = LITTLE * (best.abs() + 1)
    behind = not_above(
        last.elbo_per_datum[few] - last.elbo_per_datum[many],
        (last.se[few] ** 2 + last.se[many] ** 2) ** 0.5,
        within=little[few],
    )
    overfits = behind is False
    checks = {
        "it rises": above(rises, (last.se[many] ** 2 + first.se**2) ** 0.5),
        "more latents do not overfit": behind,
        "nor does training on": every(lost < little),
    }
    said = ", ".join(f"{k}: {v:.1f}" for k, v in last.elbo_per_datum.items())
    return (
        f"{head(checks)}: after {held.samples.max():,} training samples the held-out ELBO of {table['data'].iloc[0]} is, by latents, {said} nats a datum; with {many} it rose by {rises:.1f}, "
        f"and more latents {'overfit' if overfits else 'do not overfit'}. By training on at most {lost.max():.2f} nats of the best held-out value were lost."
    )


def figure(table: pd.DataFrame) -> plt.Figure:
    drawing, ax = plt.subplots(figsize=(7, 4.2), layout="constrained")
    latents = sorted(set(table.latents))
    for (latent, part), own in table.groupby(["latents", "part"]):
        shade = plt.get_cmap("viridis")(0.85 * latents.index(latent) / max(1, len(latents) - 1))
        ax.plot(
            own.samples,
            own.elbo_per_datum,
            "-" if part == "train" else "--",
            marker="o",
            ms=3,
            color=shade,
            label=f"{latent} latent dimensions" if part == "train" else None,
        )
    ax.plot([], [], "k--", label="held out")
    ax.set_xscale("log")
    ax.set_xlabel("training samples evaluated")
    ax.set_ylabel("ELBO (nats per datum)")
    ax.set_title(f"{table['data'].iloc[0]}: Adagrad, L = 1, minibatches of 100 (solid: training)", loc="left", fontsize=11)  # fmt: skip
    ax.legend(frameon=False, fontsize=9)
    ax.grid(alpha=0.25)
    ax.spines[["top", "right"]].set_visible(False)
    return drawing


experiment = vb.Experiment(
    question="Does the ELBO of a VAE rise quickly with the samples it has seen, and do superfluous latents overfit?",
    claim="It rises within few passes, and more latents do not overfit, because the KL is a regulariser (Kingma & Welling 2013, arXiv:1312.6114, figure 2; course, claim 15).",
    measure=measure,
    full={
        "data": "mnist",
        "latents": [3, 5, 10, 20, 200],
        "samples": [100_000, 300_000, 1_000_000, 3_000_000, 10_000_000],
        "learning_rate": 0.02,
    },
    quick={"data": "digits", "latents": [2, 5, 20], "samples": [3000, 10_000, 30_000, 100_000], "learning_rate": 0.05},
    figure=figure,
    verdict=verdict,
    notes="The full setting is the paper's, as is --set data=frey_face --set latents=2,5,10,20, except that the paper goes on to 10⁸ samples. In nats, on training and held-out data.",
    sections=("latents",),
    tasks=("latents",),
)
