"""Is the closed-form KL right, and does it make the ELBO less noisy than a sampled KL?"""

from __future__ import annotations

from functools import partial

import matplotlib.pyplot as plt
import pandas as pd
import torch
from answers import above, every, head, not_above
from pictures import split, trained
from torch.distributions import Normal, kl_divergence

import vbayes as vb

LATENT = 8
MARGIN = 0.1  # nats per digit by which the mean of draws may differ without counting


def measure(*, epochs: list[int], hidden: int, draws: int) -> pd.DataFrame:
    """Compares −½ Σ (1 + ln σ² − μ² − σ²) with torch's KL and with draws, and the noise of the ELBO with a closed-form and a sampled KL, during training."""
    x, new = split()
    fit = trained(x, latent=LATENT, hidden=hidden, epochs=0, seed=vb.default_seed())
    rows = []
    for mark in epochs:
        done = fit.steps * 100 // len(x)
        fit = fit.resume(epochs=mark - done, progress=False) if mark > done else fit
        space = vb.LatentSpace(fit, new)
        mean, scale = space.encode()
        paper = -0.5 * (1 + scale.square().log() - mean.square() - scale.square()).double().sum(-1)
        torch_kl = kl_divergence(Normal(mean.double(), scale.double()), Normal(0.0, 1.0)).sum(-1)
        z = mean + scale * torch.randn(draws, *mean.shape)
        sampled = (Normal(mean, scale).log_prob(z) - Normal(0.0, 1.0).log_prob(z)).sum(-1).double()
        means = sampled.mean(1)
        with fit.pair.scope(), torch.no_grad(), vb.seeded(0):
            own = vb.draw(fit.pair, vb.Batch(new.batch(fit.pair.model).args), 1, {"kl"}).kl.double().cpu()
        bounds = {
            method: vb.log_evidence(fit, new, method, num_particles=draws, progress=False).value / len(new)
            for method in ("elbo", "iw")
        }
        likelihood = torch.stack([rebuilt(space, each) for each in z])
        noise = torch.stack([likelihood.var(0), (likelihood - sampled).var(0)])  # of each digit's ELBO, over draws
        more = noise[1] - noise[0]
        rows.append(
            {"epochs": mark, "kl_per_datum": float(paper.mean()), "largest_difference": float(torch.maximum((paper - torch_kl).abs().max(), (own - torch_kl).abs().max())),
             "gap": bounds["iw"] - bounds["elbo"],
             "sampled_off": float(means.mean() - paper.mean()), "sampled_se": float(means.std()) / draws**0.5,
             "variance_analytic": float(noise[0].mean()), "variance_sampled": float(noise[1].mean()), "variance_se": float(more.std()) / len(more) ** 0.5}
        )  # fmt: skip
    return pd.DataFrame(rows)


def rebuilt(space: vb.LatentSpace, z: torch.Tensor) -> torch.Tensor:
    """(N,) ln p(x|z)."""
    mean = space.decode(z).double().clamp(1e-7, 1 - 1e-7)
    return torch.distributions.Bernoulli(mean).log_prob(space.data.first.cpu().double()).sum(-1)


def verdict(table: pd.DataFrame) -> str:
    ratio = table.variance_sampled / table.variance_analytic
    helps = every(map(above, table.variance_sampled - table.variance_analytic, table.variance_se))
    within = partial(not_above, within=MARGIN, sure=4)
    said = ", ".join(f"{r:.2f}× after {n} epochs" for r, n in zip(ratio, table.epochs, strict=True))
    worse, first = table[ratio < 1], table.iloc[0]
    tail = (
        f" Where it is below 1, the sampled KL and the likelihood err together, and their errors cancel: KL(q ‖ posterior) is {worse.gap.max():.2f} nats a digit or less there, of {first.kl_per_datum:.1f} to "
        f"{worse.kl_per_datum.max():.1f} that q is from the prior, and was {first.gap:.2f} at the start."
        if len(worse) and worse.gap.max() < worse.kl_per_datum.min()
        else " Where it is below 1, KL(q ‖ posterior) is no small part of KL(q ‖ prior): why the errors cancel there is not seen from these numbers."
        if len(worse)
        else ""
    )
    checks = {
        "formula, torch and vbayes agree": every(table.largest_difference < 1e-4),
        "so does the mean of draws": every(
            within(sign * r.sampled_off, r.sampled_se) for r in table.itertuples() for sign in (1, -1)
        ),  # fmt: skip
    }
    return (
        f"{head(checks, {'less noise at each point': helps})}: the formula, and the KL of vbayes, are torch's to {table.largest_difference.max():.0e} nats and the mean of draws within {(table.sampled_off / table.sampled_se).abs().max():.1f} SE; with the KL sampled the variance of a datum's ELBO "
        f"is, in that with the formula, {said}.{tail}"
    )


def figure(table: pd.DataFrame) -> plt.Figure:
    drawing, ax = plt.subplots(figsize=(6.5, 3.8), layout="constrained")
    places = range(len(table))
    ax.bar([p - 0.2 for p in places], table.variance_analytic, width=0.4, color="#0072B2", label="KL in closed form")
    ax.bar([p + 0.2 for p in places], table.variance_sampled, width=0.4, color="#56B4E9", label="KL by Monte Carlo")
    ax.plot(places, table.kl_per_datum, "k_", ms=20, label="for scale: KL(q ‖ prior) itself (nats)")
    ax.set_xticks(list(places), [str(n) for n in table.epochs])
    ax.set_xlabel("training epochs")
    ax.set_ylabel("variance of the ELBO of a digit,\none draw (nats²)")
    ax.legend(frameon=False)
    ax.spines[["top", "right"]].set_visible(False)
    return drawing


experiment = vb.Experiment(
    question="Is the closed-form KL right, and does it make the ELBO less noisy than a sampled KL?",
    claim="With a prior without parameters −D_KL = ½ Σ (1 + ln σ² − μ² − σ²) is known, and only the likelihood has to be sampled (Kingma & Welling 2013, arXiv:1312.6114, eq. 10; course, claim 14).",
    measure=measure,
    full={"epochs": [0, 3, 10, 30, 100, 300], "hidden": 256, "draws": 2000},
    quick={"epochs": [0, 5, 60], "hidden": 64, "draws": 300},
    figure=figure,
    verdict=verdict,
    notes="On held-out digits. `largest_difference`: the largest difference from torch's KL, for the formula and for the KL that estimators use. `gap`: the K-particle bound minus the ELBO per digit, which is KL(q ‖ posterior) or slightly less. `sampled_off`: mean of the sampled KL minus the formula, nats per digit. `variance_se`: standard error of the difference of the two variances, over digits. Gradients are compared in analytic_kl_or_sampled.",
)
