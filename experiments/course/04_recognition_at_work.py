"""What is recognition good for: telling models and classes apart, filling in and cleaning data?"""

from __future__ import annotations

from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import torch
from answers import above, head
from pictures import split, trained
from sklearn.naive_bayes import BernoulliNB

import vbayes as vb
from vbayes.plots import images

SHOWN = 12
TASKS = {
    "classes": "digits told right by Bayes' rule over ten VAEs",
    "models": "nats a digit between the best and the worst number of latents",
    "missing": "pixels of a missing lower half filled in right",
    "noise": "pixels right after a tenth was flipped",
}


def measure(*, latents: list[int], epochs: int, of_a_class: int, hidden: int, flipped: float) -> pd.DataFrame:
    """Each use of a VAE's evidence, or of its posterior, on digits held out, against doing without."""
    seed = vb.default_seed()
    train, held = split(seed=seed)
    fits = {f"{j}": trained(train, latent=j, hidden=hidden, epochs=epochs, seed=seed) for j in latents}
    best, models = told_apart(fits, held)
    return pd.DataFrame(
        [
            classified(train, held, of_a_class=of_a_class, hidden=hidden, seed=seed),
            models,
            filled_in(fits[best], train, held),
            cleaned(fits[best], held, flipped, seed),
        ]
    )


def row(task: str, score: np.ndarray, without: np.ndarray, **more: Any) -> dict[str, Any]:
    """Means over the data held out; the error is that of the difference, each datum being in both."""
    apart = score - without
    return {
        "task": task,
        "score": score.mean(),
        "without": without.mean(),
        "se": apart.std(ddof=1) / len(apart) ** 0.5,
        **more,
    }


def classified(train: vb.Dataset, held: vb.Dataset, *, of_a_class: int, hidden: int, seed: int) -> dict[str, Any]:
    """A VAE for each class; without latents pixels are independent in a class, which is naive Bayes."""
    label, truth = train.tensors["label"], held.tensors["label"].numpy()
    fits = {
        str(digit): vb.fit(
            vb.pairs.vae(latent=5, hidden=hidden, seed=seed),
            train.rows(label == digit),
            epochs=of_a_class,
            learning_rate=3e-3,
            seed=seed,
            progress=False,
        )
        for digit in range(10)
    }
    found = vb.compare_models(fits, held, method="iw", num_particles=100, seed=seed, progress=False)
    naive = BernoulliNB().fit(train.first.numpy(), label.numpy()).predict(held.first.numpy())
    return row("classes", (found.classify().astype(int) == truth).astype(float), (naive == truth).astype(float))


def told_apart(fits: dict[str, vb.Fit], held: vb.Dataset) -> tuple[str, dict[str, Any]]:
    """The number of latents with the highest evidence, and how far ahead of the worst it is."""
    found = vb.compare_models(fits, held, method="iw", num_particles=100, progress=False)
    table = found.to_dataframe()
    first, last = (found.evidences[name].per_datum for name in (table.model.iloc[0], table.model.iloc[-1]))
    said = ", ".join(f"{r.model}: {r.log_evidence / len(held):.1f}" for r in table.itertuples())
    return table.model.iloc[0], row("models", first, last, said=said)


def filled_in(fit: vb.Fit, train: vb.Dataset, held: vb.Dataset) -> dict[str, Any]:
    """The lower half is missing; without a model of how pixels hang together, each is what it mostly is."""
    known = torch.arange(64) < 32
    found = vb.impute(fit, held, known, draws=100, burn_in=50, progress=False)
    right = ((found.x > 0.5).float() == held.first)[:, ~known].double().mean(1).numpy()
    mostly = ((train.first.mean(0) > 0.5).float() == held.first)[:, ~known].double().mean(1).numpy()
    shown = torch.cat([torch.where(known, held.first, 0.5)[:SHOWN], found.x[:SHOWN], held.first[:SHOWN]])
    return row(
        "missing", right, mostly, pictures=shown.reshape(-1, 8, 8).tolist(), acceptance=float(found.acceptance.mean())
    )


def cleaned(fit: vb.Fit, held: vb.Dataset, flipped: float, seed: int) -> dict[str, Any]:
    """p(x|z) at the mean of q(z|x) of the noisy digit, times the chance of what was seen of each pixel; without, as it was seen."""
    flip = torch.rand(held.first.shape, generator=torch.Generator().manual_seed(seed)) < flipped
    noisy = (held.first - flip.float()).abs()
    space = vb.LatentSpace(fit)
    seen = (2 * noisy - 1) * np.log((1 - flipped) / flipped)
    clean = (space.decode(space.encode(noisy)[0]).logit() + seen).sigmoid()
    right, as_is = (((x > 0.5).float() == held.first).double().mean(1).numpy() for x in (clean, noisy))
    shown = torch.cat([noisy[:SHOWN], clean[:SHOWN], held.first[:SHOWN]])
    return row("noise", right, as_is, pictures=shown.reshape(-1, 8, 8).tolist())


def verdict(table: pd.DataFrame) -> str:
    found = table.set_index("task")
    better = {task: above(row.score - row.without, row.se) for task, row in found.iterrows()}
    noisy = {"noise is taken off": better.pop("noise")}
    words = {
        "classes": "classes are told apart",
        "models": "numbers of latents are told apart",
        "missing": "what is missing is filled in",
    }
    first = head({words[task]: holds for task, holds in better.items()}, noisy)
    classes, models, missing, noise = (found.loc[name] for name in ("classes", "models", "missing", "noise"))
    return (
        f"{first}: by the evidence of a VAE for each class {classes.score:.1%} of the digits held out are told right (naive Bayes {classes.without:.1%}, difference ± {classes.se:.1%}); by numbers of "
        f"latents the evidence a digit is {models.said} nats (best and worst {models.score - models.without:.1f} ± {models.se:.1f} apart); of a lower half that is missing {missing.score:.1%} of the pixels come out right "
        f"(each as it mostly is: {missing.without:.1%}); of digits of which {1 - noise.without:.0%} were flipped {noise.score:.1%} are right once cleaned."
    )


def figure(table: pd.DataFrame) -> plt.Figure:
    drawing, axes = plt.subplots(1, 3, figsize=(14, 3.4), layout="constrained", width_ratios=[1, 1.3, 1.3])
    shares = table[table.task != "models"]
    places = np.arange(len(shares))
    axes[0].barh(places - 0.2, shares.score, height=0.38, xerr=shares.se, color="#0072B2", label="by recognition")
    axes[0].barh(places + 0.2, shares.without, height=0.38, color="#BBBBBB", label="without")
    axes[0].set_yticks(places, ["classes told right", "missing pixels right", "noisy pixels right"])
    axes[0].invert_yaxis()
    axes[0].set_xlim(0.5, 1)
    axes[0].legend(frameon=False, fontsize=8, loc="lower left", bbox_to_anchor=(0, 1))
    axes[0].spines[["top", "right"]].set_visible(False)
    titles = {"missing": "Lower half missing; filled in; as it was", "noise": "With flipped pixels; cleaned; as it was"}
    for ax, (task, title) in zip(axes[1:], titles.items(), strict=True):
        images(np.array(table[table.task == task].pictures.iloc[0]), ax, columns=SHOWN)
        ax.set_title(title, loc="left", fontsize=11)
    return drawing


experiment = vb.Experiment(
    question="What is recognition good for: telling models and classes apart, filling in and cleaning data?",
    claim="Approximate inference of x compares models, and generates or completes data (Kingma & Welling 2013, arXiv:1312.6114, section 2.1; course, claim 4).",
    measure=measure,
    full={"latents": [1, 2, 5, 10, 20], "epochs": 500, "of_a_class": 1500, "hidden": 256, "flipped": 0.1},
    quick={"latents": [1, 10], "epochs": 100, "of_a_class": 300, "hidden": 64},
    figure=figure,
    verdict=verdict,
    notes="; ".join(f"`{task}`: {what}" for task, what in TASKS.items())
    + ". `without`: naive Bayes, the worst model, the commonest value of each pixel, the noisy picture; `se`: of the difference, over the digits held out.",
    summary=lambda table: table[["task", "score", "without", "se"]],
)
