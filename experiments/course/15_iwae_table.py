"""Table 1 of Burda, Grosse and Salakhutdinov: do more particles give a better model, and is the reason the importance-weighted bound?"""

from __future__ import annotations

from dataclasses import replace

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pyro
import pyro.distributions as dist
from answers import above, head, not_above, of_repeats
from pictures import split
from torch import Tensor, nn

import vbayes as vb

MARGIN = 0.5  # nats per datum by which it may be behind without counting
STAGES = 8  # stage i has 3^i passes with learning rate 10^(−3 − i/7): 3280 passes in all, as in the paper


def two_layers(features: int, latent: int, hidden: int, seed: int) -> vb.Pair:
    """Encoder and decoder with two tanh layers each."""
    with vb.seeded(seed):
        encoder = nn.Sequential(
            nn.Linear(features, hidden), nn.Tanh(), nn.Linear(hidden, hidden), nn.Tanh(), nn.Linear(hidden, 2 * latent)
        )
        decoder = nn.Sequential(
            nn.Linear(latent, hidden), nn.Tanh(), nn.Linear(hidden, hidden), nn.Tanh(), nn.Linear(hidden, features)
        )

    def model(x: Tensor) -> None:
        pyro.module("decoder", decoder)
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", dist.Normal(x.new_zeros(latent), 1.0).to_event(1))
            pyro.sample("x", dist.Bernoulli(logits=decoder(z)).to_event(1), obs=x)

    def guide(x: Tensor) -> None:
        pyro.module("encoder", encoder)
        location, log_scale = encoder(x).chunk(2, -1)
        with pyro.plate("data", len(x)):
            pyro.sample("z", dist.Normal(location, log_scale.exp()).to_event(1))

    return vb.Pair(model, guide, name="two_layers")


def measure(
    *, methods: list[str], data: str, latent: int, hidden: int, batch_size: int, stages: int, particles: int
) -> pd.DataFrame:
    """Held-out −log p(x), by the bound with many particles, and active units, for VAE and IWAE with k draws."""
    train, new, seed = *split(data), vb.default_seed()
    features = train.first.shape[1]
    tables = []
    for method in methods:
        name, count = method.split("-")
        estimator = vb.AnalyticKL(int(count)) if name == "VAE" else vb.IWAE(int(count))
        pair = two_layers(features, latent, hidden, seed)
        for stage in range(stages):
            fit = vb.fit(
                pair,
                replace(train, seed=stages * seed + stage),  # new pixels in each stage, where they are drawn
                estimator,
                epochs=3**stage,
                batch_size=batch_size,
                learning_rate=10 ** (-3 - stage / 7),
                seed=stages * seed + stage,
                progress=False,
            )
            pair = fit.pair
        found = vb.log_evidence(pair, new, "iw", num_particles=particles, progress=False)
        units = int(vb.latent_use(pair, new).active.sum())
        rows = {
            "method": name,
            "k": int(count),
            "active_units": units,
            "datum": np.arange(found.rows),
            "log_p": found.per_datum,
        }
        tables.append(pd.DataFrame(rows))
    return pd.concat(tables, ignore_index=True)


def summary(table: pd.DataFrame) -> pd.DataFrame:
    grouped = table.groupby(["method", "k"], sort=False)
    return grouped.agg(
        minus_log_p=("log_p", lambda v: -v.mean()), se=("log_p", "sem"), active_units=("active_units", "first")
    ).reset_index()


def verdict(table: pd.DataFrame) -> str:
    wide = table.pivot(index="datum", columns=["method", "k"], values="log_p")
    most = max(k for _, k in wide.columns)

    def lead(a: tuple[str, int], b: tuple[str, int]) -> tuple[float, float]:
        return of_repeats(wide[a] - wide[b])

    bound, bound_se = lead(("IWAE", most), ("VAE", most))
    whole, whole_se = lead(("IWAE", most), ("VAE", 1))
    checks = {
        "it gains on the ELBO with one draw": above(whole, whole_se),
        "it is not behind the ELBO with as many": not_above(-bound, bound_se, within=MARGIN),
    }
    first = head(checks, {"it gains on the ELBO with as many": above(bound, bound_se)})
    said = ", ".join(
        f"{r.method} k = {r.k}: {r.minus_log_p:.2f} ({r.active_units} active units)"
        for r in summary(table).itertuples()
    )
    return (
        f"{first}: −log p of a datum held out, nats: {said}. With {most} draws the importance-weighted bound gains {bound:+.2f} ± {bound_se:.2f} nats on the ELBO with as many, "
        f"and {whole:+.2f} ± {whole_se:.2f} on the ELBO with one."
    )


def figure(table: pd.DataFrame) -> plt.Figure:
    drawing, ax = plt.subplots(figsize=(7, 3.6), layout="constrained")
    rows = summary(table)
    labels = [f"{r.method}, k = {r.k}\n{r.active_units} active units" for r in rows.itertuples()]
    colours = ["#0072B2" if name == "VAE" else "#7B68EE" for name in rows.method]
    for label, row, colour in zip(labels, rows.itertuples(), colours, strict=True):
        ax.errorbar(label, row.minus_log_p, yerr=row.se, color=colour, ecolor="#444444", marker="o", ms=9)
    ax.margins(x=0.2)
    ax.set_ylabel("held-out −log p(x)\n(nats per datum, ± 1 SE)")
    ax.spines[["top", "right"]].set_visible(False)
    return drawing


experiment = vb.Experiment(
    question="Do more particles give a better model, and is the reason the importance-weighted bound?",
    claim="The importance-weighted bound with k = 5 and 50 gives better models than the ELBO with as many draws, which gains almost nothing from them (Burda, Grosse & Salakhutdinov 2016, arXiv:1509.00519, table 1).",
    measure=measure,
    full={
        "methods": ["VAE-1", "VAE-5", "VAE-50", "IWAE-5", "IWAE-50"],
        "data": "stochastic_mnist",
        "latent": 50,
        "hidden": 200,
        "batch_size": 20,
        "stages": STAGES,
        "particles": 5000,
    },
    quick={
        "methods": ["VAE-1", "VAE-5", "IWAE-5"],
        "data": "digits",
        "latent": 10,
        "hidden": 64,
        "batch_size": 20,
        "stages": 5,
        "particles": 100,
    },
    figure=figure,
    verdict=verdict,
    notes="The full setting is the paper's.",
    summary=summary,
    tasks=("methods",),
)
