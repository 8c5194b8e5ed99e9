"""What does a learned control variate gain for discrete latents?"""

from __future__ import annotations

import matplotlib.pyplot as plt
import pandas as pd
import pyro
import pyro.distributions as dist
import torch
from torch import nn

import vbayes as vb
from vbayes.plots.frame import points_across
from vbayes.plots.palette import GRID, style

NAMES = ("score", "rloo", "disarm", "rebar", "relax")
STILL = 1e-9  # a learning rate at which model and guide practically don't change


def binary_vae(x: torch.Tensor, latents: int = 10, units: int = 32) -> vb.Pair:
    """x ~ Bernoulli(decoder(b)), b ~ Bernoulli(½) for each of the latents; q(b|x) by an encoder."""
    features = x.shape[-1]
    with vb.seeded(0):
        encoder = nn.Sequential(nn.Linear(features, units), nn.Tanh(), nn.Linear(units, latents))
        decoder = nn.Sequential(nn.Linear(latents, units), nn.Tanh(), nn.Linear(units, features))

    def model(x: torch.Tensor) -> None:
        pyro.module("decoder", decoder)
        with pyro.plate("data", len(x)):
            b = pyro.sample("b", dist.Bernoulli(x.new_full((latents,), 0.5)).to_event(1))
            pyro.sample("x", dist.Bernoulli(logits=decoder(b)).to_event(1), obs=x)

    def guide(x: torch.Tensor) -> None:
        pyro.module("encoder", encoder)
        with pyro.plate("data", len(x)):
            pyro.sample("b", dist.Bernoulli(logits=encoder(x - 0.5)).to_event(1))

    return vb.Pair(model, guide, name="binary_vae")


def digits() -> torch.Tensor:
    """The 8 × 8 digits in black and white."""
    return (vb.data.digits().first > 0.5).float()


def measure(*, pairs: list[str], draws: int, steps: int, replicas: int, seeds: int, batch_size: int) -> pd.DataFrame:
    """Variance of the guide's gradient before and after RELAX has learned its control variate, and the ELBO during training.

    Args:
        draws: Gradient draws that RELAX learns from while model and guide are held fixed.
        steps: Steps of a training in which it learns along with model and guide.
    """
    return pd.concat([_measured(pair, draws, steps, replicas, seeds, batch_size) for pair in pairs], ignore_index=True)


def _measured(name: str, draws: int, steps: int, replicas: int, seeds: int, batch_size: int) -> pd.DataFrame:
    if name == "digits":
        x, size, rate = digits(), batch_size, 1e-3
        pair = binary_vae(x)
    else:
        pair, size, rate = vb.pairs.TRACTABLE[name].pair(), None, 1e-2
        x = vb.pairs.TRACTABLE[name].batch().args[0]
    options = {"batch_size": size, "compile": True, "progress": False}
    start = vb.fit(pair, x, vb.RELAX(), steps=0, learning_rate=STILL, **options)
    end = vb.fit(pair, x, vb.RELAX(), steps=steps, learning_rate=rate, **options)
    points = {
        "start, not learned": start, "start, learned": start.resume(steps=draws, progress=False),
        "end, not learned": vb.fit(end.pair, x, vb.RELAX(), steps=0, **options), "end, learned": end,
    }  # fmt: skip
    oracle = "tabulated" if size is None else "auto"
    noise = vb.compare(pair, x, list(NAMES), at=points, replicas=replicas, oracle=oracle, **options).to_dataframe()
    noise = noise[noise.group.str.startswith("guide")]
    noise = noise[["at", "estimator", "variance", "variance_se", "bias_z", "ms_per_gradient"]]
    race = vb.race(pair, x, list(NAMES), steps=steps, seeds=seeds, evaluations=12, learning_rate=rate, **options)
    curves = race.to_dataframe()[["estimator", "seed", "step", "elbo_per_datum"]].assign(at="training")
    return pd.concat([noise, curves]).assign(pair=name)


def learned(table: pd.DataFrame) -> pd.DataFrame:
    """For each pair, at the start and the end of training: RELAX's variance before and after learning there, and the other estimators' variances."""
    rows = []
    noise = table[table.variance.notna()].set_index(["pair", "at", "estimator"])
    for pair in dict.fromkeys(table.pair):
        for place in ("start", "end"):
            before, after = (noise.loc[(pair, f"{place}, {how}")] for how in ("not learned", "learned"))
            gap = before.variance["relax"] - after.variance["relax"]
            z = gap / (before.variance_se["relax"] ** 2 + after.variance_se["relax"] ** 2) ** 0.5
            rows.append({"pair": pair, "place": place, "before": before.variance["relax"], "z": z, **after.variance})
    return pd.DataFrame(rows)


def noise(table: pd.DataFrame) -> pd.DataFrame:
    """The gradient measurements, without the training curves."""
    columns = ["pair", "at", "estimator", "variance", "variance_se", "bias_z", "ms_per_gradient"]
    return table.loc[table.variance.notna(), columns]


def verdict(table: pd.DataFrame) -> str:
    found, biased = learned(table), table.bias_z.abs().max()
    holds = (found.z[found.place == "end"] > 3).all() and biased < 4.5
    said = [
        f"{row.pair} at the {row.place} {row.before:.3g} → {row.relax:.3g} (REBAR {row.rebar:.3g}, DisARM {row.disarm:.3g}, RLOO {row.rloo:.3g}, score {row.score:.3g})"
        for row in found.itertuples()
    ]
    ends = []
    for pair in dict.fromkeys(table.pair):
        own = table[(table.pair == pair) & (table.step == table[table.pair == pair].step.max())]
        means = own.groupby("estimator", sort=False).elbo_per_datum.mean()
        ends.append(f"{pair} " + ", ".join(f"{name} {value:.2f}" for name, value in means.items()))
    return (
        f"{'Holds' if holds else 'Fails here'}: bias |z| is at most {biased:.1f}, and as the control variate learns the variance of the guide's gradient goes from "
        f"{'; '.join(said)}. ELBO per datum after equal steps: {'; '.join(ends)}."
    )


def figure(table: pd.DataFrame) -> plt.Figure:
    pairs = list(dict.fromkeys(table.pair))
    drawing, axes = plt.subplots(len(pairs), 3, figsize=(12, 3.2 * len(pairs)), layout="constrained", squeeze=False)
    for row, pair in zip(axes, pairs, strict=True):
        own = table[table.pair == pair]
        for ax, place in zip(row, ("start", "end"), strict=False):
            before, after = (
                own[own["at"] == f"{place}, {how}"].set_index("estimator") for how in ("not learned", "learned")
            )
            labels, colours, _ = zip(*(style(name, list(NAMES)) for name in NAMES), strict=True)
            shown = pd.concat([after.loc[list(NAMES)], before.loc[["relax"]]])
            points_across(ax, (*labels, "RELAX, not learned"), shown.variance, shown.variance_se, (*colours, "#C9A9B4"))
            ax.set(
                xscale="log",
                xlabel="variance of the guide's gradient (nats²)",
                title=f"{pair.replace('_', ' ')}, {place} of training",
            )
            ax.xaxis.set_minor_formatter("" if max(shown.variance) > 10 * min(shown.variance) else "{x:g}")
            ax.invert_yaxis()
        for name in NAMES:
            label, colour, _ = style(name, list(NAMES))
            curve = own[(own["at"] == "training") & (own.estimator == name)].groupby("step").elbo_per_datum.mean()
            row[2].plot(curve.index, curve, color=colour, label=label)
        row[2].set(xlabel="steps", ylabel="ELBO per datum (nats)", title=f"{pair.replace('_', ' ')}, training")
        for ax in row:
            ax.grid(**GRID)
            ax.set_axisbelow(True)
            ax.spines[["top", "right"]].set_visible(False)
        row[2].legend(frameon=False)
    return drawing


experiment = vb.Experiment(
    question="What does a learned control variate gain for discrete latents?",
    claim="RELAX's gradient is unbiased, and by the end of training its learned control variate has reduced the variance below the initial one, which is REBAR's "
    "(Grathwohl et al. 2018, arXiv:1711.00123).",
    measure=measure,
    full={
        "pairs": ["three_bernoulli", "digits"],
        "draws": 2000,
        "steps": 2000,
        "replicas": 1000,
        "seeds": 3,
        "batch_size": 20,
    },
    quick={"pairs": ["three_bernoulli"], "draws": 500, "steps": 1500, "replicas": 2000, "seeds": 2},
    figure=figure,
    verdict=verdict,
    notes="RELAX and REBAR take one draw and a relaxed one, DisARM and RLOO two draws. Bias is measured against the exact gradient for the three latents, and against 10 times as many "
    "draws of an unbiased estimator for the digits. RELAX learns at rate 0.001, with model and guide held fixed at the start and along with them in training.",
    summary=noise,
    sections=("pair", "at"),
    tasks=("pairs",),
)
