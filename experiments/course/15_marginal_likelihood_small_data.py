"""Figure 3 of Kingma & Welling: is learning with the ELBO faster and better than wake-sleep and Monte Carlo EM, with few data and with many?"""

from __future__ import annotations

import math
import time
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import torch
from answers import above, every, head, measured, not_above, of_repeats
from pictures import split

import vbayes as vb

LATENT, BATCH = 3, 100
MARGIN = 0.5  # nats per datum by which it may be behind without counting
BUSY = 1.5  # factor by which a busy machine may have slowed down either method
METHODS = {"AEVB": vb.AnalyticKL(), "wake-sleep": vb.SleepPhase(), "Monte Carlo EM": None}
COLOURS = {"AEVB": "#0072B2", "wake-sleep": "#7F7F7F", "Monte Carlo EM": "#D55E00"}


def measure(
    *,
    data: str,
    rows: list[int],
    methods: list[str],
    samples: list[int],
    longer: int,
    hidden: int,
    learning_rate: float,
    judged: int,
    chains: int,
    temperatures: int,
) -> pd.DataFrame:
    """log p(x) per datum on training and held-out data, by annealing from the prior, which needs no guide."""
    train, held = split(data)
    tables = []
    for count in rows:
        own, unseen = train.rows(slice(0, count)), held.rows(slice(0, judged))
        both = torch.cat([own.first[:judged], unseen.first])
        for method in methods:
            pair = vb.pairs.vae(own.first.shape[1], hidden=hidden, latent=LATENT)
            options: dict[str, Any] = {
                "batch_size": min(BATCH, count),
                "learning_rate": learning_rate,
                "progress": False,
            }
            options["optimizer"] = torch.optim.Adagrad
            state: Any = None
            seconds = 0.0
            for number in [*samples, *([longer * samples[-1]] if method == "AEVB" else [])]:
                start = time.perf_counter()
                if state is not None:
                    state = state.resume(steps=number // options["batch_size"] - state.steps, progress=False)
                elif METHODS[method] is None:
                    state = vb.monte_carlo_em(pair, own, steps=number // options["batch_size"], **options)
                else:
                    state = vb.fit(pair, own, METHODS[method], steps=number // options["batch_size"], **options)
                seconds += time.perf_counter() - start
                model = state.pair.guided_by_prior(vb.Batch((both,)))
                found = vb.log_evidence(
                    model, both, "ais", num_particles=chains, temperatures=temperatures, progress=False
                )
                parts = np.repeat(["train", "held out"], [len(both) - len(unseen), len(unseen)])
                tables.append(
                    pd.DataFrame({"rows": count, "method": method, "samples": number, "seconds": seconds, "part": parts, "datum": range(len(both)), "log_p": found.per_datum})
                )  # fmt: skip
    return pd.concat(tables, ignore_index=True)


def summary(table: pd.DataFrame) -> pd.DataFrame:
    grouped = table.groupby(["rows", "method", "samples", "part"], sort=False)
    return grouped.agg(log_p=("log_p", "mean"), se=("log_p", "sem"), seconds=("seconds", "first")).reset_index()


def lead(held: pd.DataFrame, of: tuple[str, int], on: tuple[str, int]) -> tuple[float, float]:
    """Lead of one (method, samples) over another in held-out log p(x): mean and standard error over data, in nats."""
    wide = held.pivot(index="datum", columns=["method", "samples"], values="log_p")
    return of_repeats(wide[of] - wide[on])


def in_time(own: pd.DataFrame, seconds: float, samples: int) -> tuple[float, float]:
    """The lead of AEVB, at its last evaluation within `seconds`, over Monte Carlo EM after `samples`; NaN if there was no evaluation so early."""
    looks = own[(own.method == "AEVB") & (own.seconds <= seconds)].samples
    return lead(own, ("AEVB", looks.max()), ("Monte Carlo EM", samples)) if len(looks) else (math.nan, math.nan)


def verdict(table: pd.DataFrame) -> str:
    """Compares held-out data, paired by datum, after equal numbers of samples and after equal times."""
    held = table[table["part"] == "held out"]
    samples = sorted(set(held[held.method == "Monte Carlo EM"].samples))
    said, equal, timed = [], {}, []
    for count, own in held.groupby("rows"):
        parts = []
        for other in ("wake-sleep", "Monte Carlo EM"):
            equal[count, other] = [lead(own, ("AEVB", number), (other, number)) for number in samples]
            both = ", ".join(f"{mean:+.2f} ± {se:.2f}" for mean, se in equal[count, other])
            parts.append(f"{both} on {other}")
        theirs = own[(own.method == "Monte Carlo EM") & (own.samples == samples[-1])].seconds.iloc[0]
        least, same, most = (in_time(own, theirs * by, samples[-1]) for by in (1 / BUSY, 1, BUSY))
        timed.append(True if above(*least) else False if above(*most) is False else None)
        shown = measured(*same, "+.2f") if math.isfinite(same[0]) else "unknown"
        parts.append(f"{shown} on the latter in the {theirs:.0f} s that it took")
        said.append(f"N = {count:,}: {', '.join(parts)}")
    asleep = [each for (_, other), leads in equal.items() if other == "wake-sleep" for each in leads]
    checks = {
        "it is not behind wake-sleep": every(not_above(-mean, se, within=MARGIN, of=len(asleep)) for mean, se in asleep),
        "it is ahead of Monte Carlo EM for the same time": every(timed),
    }  # fmt: skip
    first = head(
        checks, {"it is ahead sample for sample": every(above(*each) for leads in equal.values() for each in leads)}
    )
    looks = " and ".join(f"{number:,}" for number in samples)
    return f"{first}: the lead of AEVB in held-out log p(x) after {looks} samples, nats a datum: {'; '.join(said)}. A visit of Monte Carlo EM is ten leaps of each chain and five steps of θ."


def figure(table: pd.DataFrame) -> plt.Figure:
    rows = summary(table)
    sizes = sorted(set(rows.rows))
    drawing, axes = plt.subplots(
        1, len(sizes), figsize=(5.2 * len(sizes), 4), layout="constrained", sharey=True, squeeze=False
    )
    for ax, count in zip(axes[0], sizes, strict=True):
        for (method, part), own in rows[rows.rows == count].groupby(["method", "part"]):
            style = {"color": COLOURS[method], "marker": "o", "ms": 4, "label": method if part == "held out" else None}
            ax.errorbar(own.samples, own.log_p, yerr=own.se, linestyle="--" if part == "held out" else "-", **style)
        ax.set_xscale("log")
        ax.set_xlabel("training samples evaluated")
        ax.set_title(f"{count:,} training data (solid: training, dashed: held out)", loc="left", fontsize=11)
        ax.grid(alpha=0.25)
        ax.spines[["top", "right"]].set_visible(False)
    axes[0, 0].set_ylabel("log p(x) (nats per datum, ± 1 SE)")
    axes[0, 0].legend(frameon=False, fontsize=9)
    return drawing


experiment = vb.Experiment(
    question="Is learning with the ELBO faster and better than wake-sleep and Monte Carlo EM, with few data and with many?",
    claim="Stochastic gradients of the ELBO (AEVB) converge faster and to better models than wake-sleep and Monte Carlo EM, which can't be run online on large data (Kingma & Welling 2013, arXiv:1312.6114, figure 3).",
    measure=measure,
    full={
        "data": "mnist",
        "rows": [1000, 50_000],
        "methods": ["AEVB", "wake-sleep", "Monte Carlo EM"],
        "samples": [100_000, 300_000, 1_000_000, 3_000_000, 10_000_000],
        "longer": 10,
        "hidden": 100,
        "learning_rate": 0.02,
        "judged": 1000,
        "chains": 16,
        "temperatures": 500,
    },
    quick={
        "data": "digits",
        "rows": [100, 1000],
        "samples": [3000, 20_000],
        "longer": 20,
        "hidden": 100,
        "learning_rate": 0.05,
        "judged": 100,
        "chains": 8,
        "temperatures": 30,
    },
    figure=figure,
    verdict=verdict,
    notes="The full setting is the paper's: 100 hidden units, three latents, Adagrad, N = 1000 and 50,000. Evidence by annealed importance sampling from the prior (in the paper by a density estimate from HMC draws).",
    summary=summary,
    sections=("rows",),
    tasks=("rows", "methods"),
)
