"""Does the latent space of a VAE organise the data by class, without having seen labels?"""

from __future__ import annotations

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import torch
from answers import head, measured, surely
from pictures import split, trained
from sklearn.decomposition import PCA
from sklearn.neighbors import KNeighborsClassifier

import vbayes as vb
from vbayes.plots import images

GRID = 15  # pictures along each axis of the map of the latent space
NEIGHBOURS = 10


def measure(*, data: str, rows: int | None, epochs: int, hidden: int, repeats: int) -> pd.DataFrame:
    """Accuracy of classifying held-out digits by their nearest neighbours in two latent dimensions, in two principal components, and in all pixels."""
    scores = []
    for seed in range(repeats * vb.default_seed(), repeats * (vb.default_seed() + 1)):
        train, new = split(data, seed, rows=rows)
        (x, labels), (unseen, held) = (list(part.tensors.values()) for part in (train, new))
        space_of = vb.LatentSpace(trained(train, latent=2, hidden=hidden, epochs=epochs, seed=seed))
        places = [space_of.encode(part)[0].numpy() for part in (train, new)]
        pca = PCA(2).fit(x.numpy())
        spaces = {
            "latent space, 2-D": places,
            "PCA, 2-D": [pca.transform(part.numpy()) for part in (x, unseen)],
            "pixels": [x.numpy(), unseen.numpy()],
        }
        judges = {space: KNeighborsClassifier(NEIGHBOURS).fit(known, labels) for space, (known, _) in spaces.items()}
        lies = judges["latent space, 2-D"].predict(places[1])
        generated = judges["pixels"].predict(space_of.decode(torch.from_numpy(places[1])).numpy())
        for space, (_, unknown) in spaces.items():
            row = {"space": space, "seed": seed, "accuracy": judges[space].score(unknown, held)}
            if space.startswith("latent"):
                row["generated"] = (generated == lies).mean()
            if seed % repeats == 0 and space.startswith("latent"):
                chart = space_of.as_images(space_of.chart(side=GRID))
                row |= {"places": places[1].tolist(), "labels": held.tolist(), "map": chart.tolist()}
            scores.append(row)
    return pd.DataFrame(scores)


def verdict(table: pd.DataFrame) -> str:
    wide = table.pivot(index="seed", columns="space", values="accuracy")
    mean, se = wide.mean(), wide.sem()
    ours = wide["latent space, 2-D"]
    made = table[table.space == ours.name].generated
    checks = {
        "more are told right than by PCA": surely(ours - wide["PCA, 2-D"]),
        "and more than half": surely(ours, 0.5),
        "a place generates what lies there": surely(made, 0.5),
    }
    return (
        f"{head(checks)}: by their ten neighbours in a latent space of two dimensions, learnt without labels, {measured(mean['latent space, 2-D'], se['latent space, 2-D'], '.0%')} of the digits "
        f"held out are told right (PCA with two components {measured(mean['PCA, 2-D'], se['PCA, 2-D'], '.0%')}, all pixels {mean['pixels']:.0%}, chance 10%). What a place generates is, by its pixels, the digit that lies around it, for {made.mean():.0%} of the places."
    )


def figure(table: pd.DataFrame) -> plt.Figure:
    drawing, (left, right) = plt.subplots(1, 2, figsize=(11, 5), layout="constrained")
    row = table[table.places.notna()].iloc[0]
    places, labels, pictures = (np.array(row[name]) for name in ("places", "labels", "map"))
    shown = left.scatter(*places.T, c=labels, cmap="tab10", s=12)
    drawing.colorbar(shown, ax=left, ticks=range(10), label="digit")
    left.set(xlabel="z₁", ylabel="z₂")
    left.set_title("Held-out digits at the mean of q(z|x)", loc="left", fontsize=11)
    images(pictures, right, columns=GRID)
    right.set_title("Mean of p(x|z) on a grid of quantiles of the prior", loc="left", fontsize=11)
    left.spines[["top", "right"]].set_visible(False)
    return drawing


experiment = vb.Experiment(
    question="Does the latent space of a VAE organise the data by class, without having seen labels?",
    claim="The latent space can be mapped, seeing which data each point generates (course, claim 16).",
    measure=measure,
    full={"data": "digits", "rows": None, "epochs": 500, "hidden": 256, "repeats": 5},
    quick={"epochs": 100, "hidden": 128, "repeats": 3},
    figure=figure,
    verdict=verdict,
    notes="`accuracy`: of a classifier by ten nearest neighbours, on held-out data (a third of the digits; `--set data=mnist` takes MNIST). `generated`: fraction of their codes for which the generated picture is classified, by its nearest pictures, as the digit of the code's neighbours.",
    summary=lambda table: table[["space", "seed", "accuracy", "generated"]],
    sections=("space",),
)
