"""Do path gradients help with normalising flows?"""

from __future__ import annotations

import functools
import math
import warnings
from collections.abc import Callable

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pyro
import pyro.distributions as dist
import torch
from course.answers import above, every, head, measured
from pyro.distributions import transforms
from pyro.infer.autoguide import AutoIAFNormal, AutoNormalizingFlow

import vbayes as vb
from vbayes.errors import Unsuitable
from vbayes.plots.palette import GRID, style

ESTIMATORS = ("pathwise", "stl", "path_gradient")
X = torch.zeros(1)


def banana(x: torch.Tensor) -> None:
    """Two latents and no observations: p is normalised, so its evidence is 1 and KL(q ‖ p) = −ELBO."""
    a = pyro.sample("a", dist.Normal(x.new_zeros(()), 1.0))
    pyro.sample("b", dist.Normal(a.square() / 2, 0.3))


def planar(layers: int) -> Callable[[int], torch.distributions.Transform]:
    return lambda d: transforms.ComposeTransformModule([transforms.planar(d) for _ in range(layers)])


GUIDES: dict[str, Callable[[], Callable[..., None]]] = {
    "affine coupling": lambda: AutoNormalizingFlow(banana, functools.partial(transforms.iterated, 4, transforms.affine_coupling)),
    "inverse autoregressive": lambda: AutoIAFNormal(banana, hidden_dim=[16], num_transforms=2),
    "planar": lambda: AutoNormalizingFlow(banana, planar(8)),
}  # fmt: skip


def pair_of(name: str) -> vb.Pair:
    pyro.set_rng_seed(0)
    return vb.Pair(banana, GUIDES[name](), name=name).initialise(vb.Batch((X,)))


def suiting(pair: vb.Pair) -> tuple[list[str], dict[str, float]]:
    """The estimators that can be captured as a program with this guide, and the µs per step of those that run in plain Pyro instead."""
    found, slow = [], {}
    for name in ESTIMATORS:
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # warnings about what can't be captured, which the table shows
                race = vb.race(pair, X, [name], steps=20, seeds=1, evaluations=1, compile=True, progress=False)
        except Unsuitable:
            continue
        if race.fits[name, race.seeds[0]].engine.startswith("Pyro"):
            slow[name] = 1000 * float(race.summary().ms_per_step.iloc[0])
        else:
            found.append(name)
    return found, slow


def measure(*, steps: int, seeds: int, replicas: int, learning_rate: float) -> pd.DataFrame:
    """For each guide and estimator: KL(q ‖ p) after training, the time of a step, and the gradient's variance at the start and the end."""
    rows = []
    for guide in GUIDES:
        pair = pair_of(guide)
        names, slow = suiting(pair)
        race = vb.race(
            pair, X, names, steps=steps, seeds=seeds, evaluations=4, learning_rate=learning_rate, progress=False
        )  # fmt: skip
        end = race.to_dataframe().groupby(["estimator", "seed"], sort=False).last(skipna=False)
        trained = race.fits["path_gradient", race.seeds[0]]
        table = vb.compare(
            pair, X, names, at={"start": pair, "end": trained}, replicas=replicas, progress=False
        ).to_dataframe()  # fmt: skip
        table = table[table.group == "all"].set_index(["at", "estimator"])
        for name in names:
            kl = -end.loc[name].elbo_per_datum
            rows.append(
                {
                    "guide": guide, "estimator": name, "kl": kl.mean(), "kl_se": kl.sem(), "µs a step": 1e6 * (end.loc[name].seconds / end.loc[name].step).median(),
                    "engine": race.fits[name, race.seeds[0]].engine.split(":")[0],
                    **{f"{column} at the {at}": table.loc[(at, name), column] for at in ("start", "end") for column in ("variance", "variance_se")},
                }
            )  # fmt: skip
        rows += [
            {"guide": guide, "estimator": name, "µs a step": time, "engine": "Pyro"} for name, time in slow.items()
        ]
    return pd.DataFrame(rows)


def summary(table: pd.DataFrame) -> pd.DataFrame:
    """The table without the standard errors, which the figure shows."""
    return table[[name for name in table if "_se" not in name]]


def verdict(table: pd.DataFrame) -> str:
    said, quieter = [], []
    for guide, own in table.groupby("guide", sort=False):
        at = own.set_index("estimator")
        path, plain = at.loc["path_gradient"], at.loc["pathwise"]
        ratio = plain["variance at the end"] / path["variance at the end"]
        errors = (row["variance_se at the end"] / row["variance at the end"] for row in (path, plain))
        quieter.append(above(ratio, ratio * math.hypot(*errors), 1))
        text = f"{guide}: {ratio:.2g} times less variance than pathwise after training ({plain['variance at the start'] / path['variance at the start']:.2g} at the start), "
        text += f"KL {measured(path.kl, path.kl_se, '.2g')} nats (pathwise {measured(plain.kl, plain.kl_se, '.2g')}), {path['µs a step'] / plain['µs a step']:.2g} times its step"
        if "stl" not in at.index:
            text += "; sticking the landing by densities can't be had"
        else:
            text += f"; sticking the landing by densities takes {at.loc['stl', 'µs a step'] / path['µs a step']:.2g} times the time"
        said.append(text)
    return f"{head({'it is quieter after training': every(quieter)})}: {'. '.join(said)}."


def figure(table: pd.DataFrame) -> plt.Figure:
    """Variance at the start and after training, KL reached, and time per step, for each guide."""
    panels = {
        "variance at the start": "variance at the start",
        "variance at the end": "variance after training",
        "kl": "KL(q ‖ p) reached (nats)",
        "µs a step": "µs per step",
    }
    drawing, axes = plt.subplots(1, 4, figsize=(14, 3.8), layout="constrained")
    guides, names = list(dict.fromkeys(table.guide)), list(ESTIMATORS)
    for ax, (column, words) in zip(axes, panels.items(), strict=True):
        for place, name in enumerate(names):
            own = table[table.estimator == name].set_index("guide").reindex(guides)
            label, colour, marker = style(name, names)
            errors = (
                own[f"{column.replace('variance', 'variance_se') if 'variance' in column else column + '_se'}"]
                if column != "µs a step"
                else None
            )
            ax.errorbar(
                np.arange(len(guides)) + 0.14 * (place - 1),
                own[column],
                yerr=errors,
                color=colour,
                marker=marker,
                ls="",
                ms=7,
                mec="white",
                mew=0.5,
                label=label,
            )
        ax.set_yscale("log")
        ax.set_xticks(range(len(guides)), [g.replace(" ", "\n") for g in guides])
        ax.set_title(words, loc="left", fontsize=10)
        ax.grid(axis="y", **GRID)
        ax.spines[["top", "right"]].set_visible(False)
    drawing.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=3, frameon=False)
    return drawing  # fmt: skip


experiment = vb.Experiment(
    question="Do path gradients help with normalising flows?",
    claim="After training the path gradient has less noise than the pathwise gradient, for flows with and without an inverse.",
    measure=measure,
    full={"steps": 10_000, "seeds": 3, "replicas": 100_000, "learning_rate": 3e-3},
    quick={"steps": 600, "seeds": 2, "replicas": 400},
    figure=figure,
    verdict=verdict,
    notes="Flows over two latents with a banana-shaped posterior of known evidence. The variance is summed over all parameters, at the start and where the first run with the path "
    "gradient ended; times are those of training alone. What can't be captured is timed over 20 steps of Pyro, and not trained.",
    summary=summary,
    sections=("guide",),
)  # fmt: skip
