"""Do pictures drawn from the prior of a VAE look like the data?"""

from __future__ import annotations

import math

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import torch
from answers import every, head, measured, surely
from pictures import split, trained
from sklearn.neural_network import MLPClassifier

import vbayes as vb
from vbayes.plots import images

LATENT, SHOWN, SURE, HALF = 8, 48, 0.9, 0.5
MEASURED = ("confident", "effective_classes", "pixels_from_nearest", "variance_of_z")


def measure(*, data: str, rows: int | None, epochs: int, hidden: int, count: int, repeats: int) -> pd.DataFrame:
    """How a classifier trained on the data judges pictures from the prior, held-out data, and independently drawn pixels."""
    found = []
    for seed in range(repeats * vb.default_seed(), repeats * (vb.default_seed() + 1)):
        train, held = split(data, seed, rows=rows)
        x, labels, new = train.first, train.tensors["label"], held.first
        space = vb.LatentSpace(trained(train, latent=LATENT, hidden=hidden, epochs=epochs, seed=seed))
        judge = MLPClassifier((64,), max_iter=1000, tol=1e-3, random_state=seed).fit(x.numpy(), labels)
        mean, scale = space.encode()
        spread = float((mean.var(0) + scale.square().mean(0)).mean())  # variance of z over the data; 1 under the prior
        generator = torch.Generator().manual_seed(seed)
        _, drawn = space.generate(count, seed=seed)
        sources = {
            "data held out": new,
            "reconstructed": torch.bernoulli(space.decode(space.encode(held)[0]), generator=generator),
            "drawn from the prior": torch.bernoulli(drawn, generator=generator),
            "independent pixels": torch.bernoulli(x.mean(0).expand(count, -1), generator=generator),
        }
        for source, pictures in sources.items():
            chance = judge.predict_proba(pictures.numpy())
            share = np.bincount(chance.argmax(1), minlength=10) / len(chance)
            entropy = float(-(share[share > 0] * np.log(share[share > 0])).sum())
            nearest = torch.cdist(pictures, x, p=1).amin(1)
            found.append(
                {"source": source, "seed": seed, "confident": float((chance.max(1) > SURE).mean()), "effective_classes": math.exp(entropy), "pixels_from_nearest": float(nearest.mean()), "variance_of_z": spread,
                 "pictures": space.as_images((drawn if source == "drawn from the prior" else pictures)[:SHOWN]).tolist() if seed % repeats == 0 else None}
            )  # fmt: skip
    return pd.DataFrame(found)


def verdict(table: pd.DataFrame) -> str:
    grouped = table.groupby("source")
    mean, se = (f(numeric_only=True) for f in (grouped.mean, grouped.sem))
    names = ("drawn from the prior", "reconstructed", "data held out", "independent pixels")
    source = dict(zip(("made", "rebuilt", "data", "noise"), names, strict=True))
    made, rebuilt, data, noise = (mean.loc[name] for name in names)
    of_rebuilt = (made.confident - noise.confident) / (rebuilt.confident - noise.confident)
    of_data = (made.confident - noise.confident) / (data.confident - noise.confident)
    seeds = {what: table.pivot(index="seed", columns="source", values=what) for what in MEASURED}

    def more(what: str, **parts: float) -> bool | None:
        """Whether a linear combination of the sources, computed for each seed, is above 0."""
        apart = sum(part * seeds[what][source[name]] for name, part in parts.items())
        return surely(apart)

    kinds, spread = (seeds[what][names[0]] for what in ("effective_classes", "variance_of_z"))
    checks = {
        "all kinds are drawn": surely(kinds, 8), "draws are nearer to data than noise is": more("pixels_from_nearest", noise=1, made=-1),
        "draws are told more surely than noise": more("confident", made=1, noise=-1), "at least half as surely as reconstructions": more("confident", made=1, noise=HALF - 1, rebuilt=-HALF),
        "they are no copies": more("pixels_from_nearest", made=1, data=-0.5), "z has the prior's spread": every([surely(spread, 0.5), surely(-spread, -2)]),
    }  # fmt: skip
    first = head(checks, {"as surely as data": more("confident", made=1, noise=-0.1, data=-0.9)})
    return (
        f"{first}: a classifier is sure (> {SURE:.0%}) of {measured(made.confident, se.confident[names[0]], '.0%')} of the pictures drawn from the prior, of {noise.confident:.0%} of independent pixels, of {rebuilt.confident:.0%} of "
        f"reconstructions and {data.confident:.0%} of data held out: a draw from N(0, I) is {of_rebuilt:.0%} of the way from noise to a picture of the posterior's latents, and {of_data:.0%} of that to data, for the pixels have noise of their own. The draws are of "
        f"{made.effective_classes:.1f} kinds (data {data.effective_classes:.1f} of 10) and {made.pixels_from_nearest:.1f} pixels from the nearest datum (data held out {data.pixels_from_nearest:.1f}, noise {noise.pixels_from_nearest:.1f}), so no copies. "
        f"Over the data z has a variance of {made.variance_of_z:.2f}, under the prior 1."
    )


def figure(table: pd.DataFrame) -> plt.Figure:
    shown = table[table.pictures.notna()]
    drawing, axes = plt.subplots(1, len(shown), figsize=(16, 3.4), layout="constrained")
    for ax, row in zip(axes, shown.itertuples(), strict=True):
        images(np.array(row.pictures), ax, columns=12)
        ax.set_title(f"{row.source}\nclassifier confident of {row.confident:.0%}", loc="left", fontsize=11)
    return drawing


experiment = vb.Experiment(
    question="Do pictures drawn from the prior of a VAE look like the data?",
    claim="The latent is pushed to N(0, I), so synthetic data are easy to draw (course, claim 17).",
    measure=measure,
    full={"data": "digits", "rows": None, "epochs": 500, "hidden": 256, "count": 2000, "repeats": 5},
    quick={"epochs": 100, "hidden": 128, "count": 600, "repeats": 3},
    figure=figure,
    verdict=verdict,
    notes="`confident`: fraction of pictures for which a classifier trained on the data gives one digit more than 90 %. `effective_classes`: exponential of the entropy of its answers. The pictures shown are means; those judged have sampled pixels, like the data.",
    summary=lambda table: table.drop(columns=["pictures"]),
    sections=("source",),
)
