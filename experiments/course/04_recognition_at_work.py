"""What is recognition good for: comparing models, classifying, imputing and denoising data?"""

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
    "classes": "digits classified correctly by Bayes' rule over ten VAEs",
    "models": "pictures drawn from VAEs with different numbers of latents, attributed to the VAE that drew them",
    "missing": "pixels of a missing lower half imputed correctly",
    "noise": "pixels that are right after a tenth was flipped and the picture denoised",
}


def measure(*, latents: list[int], epochs: int, of_a_class: int, hidden: int, flipped: float) -> pd.DataFrame:
    """Each use of a VAE's evidence or posterior on held-out digits, compared with a baseline without a VAE."""
    seed = vb.default_seed()
    train, held = split(seed=seed)
    fits = {f"{j}": trained(train, latent=j, hidden=hidden, epochs=epochs, seed=seed) for j in latents}
    best, models = told_apart(fits, held, seed)
    return pd.DataFrame(
        [
            classified(train, held, of_a_class=of_a_class, hidden=hidden, seed=seed),
            models,
            filled_in(fits[best], train, held),
            cleaned(fits[best], held, flipped, seed),
        ]
    )


def row(task: str, score: np.ndarray, baseline: np.ndarray, **more: Any) -> dict[str, Any]:
    """Means over the held-out data; `se` is that of the paired difference."""
    apart = score - baseline
    return {
        "task": task,
        "score": score.mean(),
        "baseline": baseline.mean(),
        "se": apart.std(ddof=1) / len(apart) ** 0.5,
        **more,
    }


def classified(train: vb.Dataset, held: vb.Dataset, *, of_a_class: int, hidden: int, seed: int) -> dict[str, Any]:
    """A VAE for each class. The baseline is naive Bayes, a model without latents, in which pixels are independent within a class."""
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


def told_apart(fits: dict[str, vb.Fit], held: vb.Dataset, seed: int) -> tuple[str, dict[str, Any]]:
    """The number of latents with the highest evidence, and whether Bayes' rule attributes each model's draws to that model (for real digits the true model is unknown)."""
    how: dict[str, Any] = {"method": "iw", "num_particles": 100, "progress": False}
    table = vb.compare_models(fits, held, **how).to_dataframe()
    said = ", ".join(f"{r.model}: {r.log_evidence / len(held):.1f}" for r in table.itertuples())
    drawn = []
    for space in map(vb.LatentSpace, fits.values()):
        z, _ = space.generate(len(held), seed=seed)
        drawn.append(space.sample(z, seed=seed))
    found = vb.compare_models(fits, torch.cat(drawn), **how).classify()
    right = (found == np.repeat(list(fits), len(held))).astype(float)
    return table.model.iloc[0], row("models", right, np.full(len(right), 1 / len(fits)), said=said)


def filled_in(fit: vb.Fit, train: vb.Dataset, held: vb.Dataset) -> dict[str, Any]:
    """Imputes a missing lower half. The baseline, without a model of dependence between pixels, is the most frequent value of each pixel."""
    known = torch.arange(64) < 32
    found = vb.impute(fit, held, known, draws=100, burn_in=50, progress=False)
    right = ((found.x > 0.5).float() == held.first)[:, ~known].double().mean(1).numpy()
    mostly = ((train.first.mean(0) > 0.5).float() == held.first)[:, ~known].double().mean(1).numpy()
    shown = torch.cat([torch.where(known, held.first, 0.5)[:SHOWN], found.x[:SHOWN], held.first[:SHOWN]])
    return row(
        "missing", right, mostly, pictures=shown.reshape(-1, 8, 8).tolist(), acceptance=float(found.acceptance.mean())
    )


def cleaned(fit: vb.Fit, held: vb.Dataset, flipped: float, seed: int) -> dict[str, Any]:
    """Denoises by p(x|z), at the mean of q(z|x) for the noisy digit, times the likelihood of each observed pixel. The baseline is the noisy picture."""
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
    better = {task: above(row.score - row.baseline, row.se) for task, row in found.iterrows()}
    noisy = {"noise is taken off": better.pop("noise")}
    words = {
        "classes": "classes are told apart",
        "models": "numbers of latents are told apart by what they draw",
        "missing": "what is missing is filled in",
    }
    first = head({words[task]: holds for task, holds in better.items()}, noisy)
    classes, models, missing, noise = (found.loc[name] for name in ("classes", "models", "missing", "noise"))
    return (
        f"{first}: by the evidence of a VAE for each class {classes.score:.1%} of the digits held out are told right (naive Bayes {classes.baseline:.1%}, difference ± {classes.se:.1%}); of pictures drawn from "
        f"VAEs with other numbers of latents {models.score:.1%} are given to the one that drew them (by guessing {models.baseline:.1%}; the evidence of a digit held out is, by latents, {models.said} nats); of a lower half that is missing {missing.score:.1%} of the pixels come out right "
        f"(each as it mostly is: {missing.baseline:.1%}); of digits of which {1 - noise.baseline:.0%} were flipped {noise.score:.1%} are right once cleaned."
    )


def figure(table: pd.DataFrame) -> plt.Figure:
    drawing, axes = plt.subplots(1, 3, figsize=(15, 3.6), layout="constrained", width_ratios=[1, 1.3, 1.3])
    places = np.arange(len(table))
    axes[0].barh(
        places - 0.2,
        100 * table.score,
        height=0.38,
        xerr=100 * table.se,
        color="#0072B2",
        label="by the VAE's evidence or posterior",
    )
    axes[0].barh(places + 0.2, 100 * table.baseline, height=0.38, color="#BBBBBB", label="baseline without a VAE")
    axes[0].set_yticks(
        places,
        [
            "digit classified\n(baseline: naive Bayes)",
            "model identified\n(baseline: guessing)",
            "missing pixel imputed\n(baseline: its mode)",
            "noisy pixel restored\n(baseline: as observed)",
        ],
    )
    axes[0].set_xlabel("correct (%)")
    axes[0].invert_yaxis()
    axes[0].set_xlim(0, 100)
    axes[0].legend(frameon=False, fontsize=8, loc="lower left", bbox_to_anchor=(0, 1))
    axes[0].spines[["top", "right"]].set_visible(False)
    titles = {"missing": "Rows: lower half missing, imputed, original", "noise": "Rows: pixels flipped at random, denoised, original"}  # fmt: skip
    for ax, (task, title) in zip(axes[1:], titles.items(), strict=True):
        images(np.array(table[table.task == task].pictures.iloc[0]), ax, columns=SHOWN)
        ax.set_title(title, loc="left", fontsize=11)
    return drawing


experiment = vb.Experiment(
    question="What is recognition good for: comparing models, classifying, imputing and denoising data?",
    claim="Approximate inference of x compares models, and generates or completes data (Kingma & Welling 2013, arXiv:1312.6114, section 2.1; course, claim 4).",
    measure=measure,
    full={"latents": [1, 2, 5, 10, 20], "epochs": 500, "of_a_class": 1500, "hidden": 256, "flipped": 0.1},
    quick={"latents": [1, 10], "epochs": 100, "of_a_class": 300, "hidden": 64},
    figure=figure,
    verdict=verdict,
    notes="; ".join(f"`{task}`: {what}" for task, what in TASKS.items())
    + ". `baseline`: naive Bayes, guessing, the most frequent value of each pixel, the noisy picture; `se`: standard error of the difference, over the held-out or the drawn digits.",
    summary=lambda table: table[["task", "score", "baseline", "se"]],
)
