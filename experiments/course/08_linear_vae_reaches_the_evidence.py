"""Does the linear variational autoencoder reach the exact evidence, and the maximum likelihood of probabilistic PCA?"""

from __future__ import annotations

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import torch
from answers import head
from pixels import as_text, draw_row
from torch.distributions import MultivariateNormal, kl_divergence

import vbayes as vb
from vbayes.exact.probabilistic_pca import maximum_likelihood
from vbayes.plots.palette import GRID

COLOURS = {"diagonal": "#0072B2", "full": "#D55E00"}
RATES = (0.03, 0.01, 0.001)
ENOUGH = 0.01  # nats per digit
ALIGNED = 0.99  # cosine, an angle of 8 degrees


def measure(*, latent: int, steps: int, looks: int, seeds: int) -> pd.DataFrame:
    """ELBO, evidence and KL in closed form while training a diagonal and a full linear guide."""
    data = vb.data.digits(binary=False)
    x = data.first.double()
    best = maximum_likelihood(x, latent)
    highest = float(best.log_evidence(x).mean())
    directions = (best.weight / best.weight.norm(dim=0)).T
    rows = [
        {"what": "picture", "guide": "closed form", "step": i, "pixels": as_text(p)} for i, p in enumerate(directions)
    ]
    for kind in COLOURS:
        for seed in range(seeds * vb.default_seed(), seeds * (vb.default_seed() + 1)):
            pair, step = vb.pairs.probabilistic_pca(x.shape[1], latent, covariance=kind, seed=seed), 0
            pair.initialise(vb.Batch((data.first,)))
            rows.append({"guide": kind, "seed": seed, "step": 0, "highest": highest, **closed_forms(pair, x)})
            for rate in RATES:
                fit = vb.fit(pair, data, "stl", steps=0, learning_rate=rate, seed=seed, progress=False)
                parts = np.diff(np.geomspace(10, steps, looks).round().astype(int), prepend=0) if not step else [steps]
                for count in parts:
                    fit, step = fit.resume(steps=int(count), progress=False), step + int(count)
                    rows.append(
                        {"guide": kind, "seed": seed, "step": step, "highest": highest, **closed_forms(fit.pair, x)}
                    )
                pair = fit.pair
            weight = fit.parameters["weight"].double()
            unit = weight / weight.norm(dim=0)
            # Absolute cosine between each column and its nearest principal direction; 1 if they are parallel.
            cosines = (directions @ unit).abs()
            rows[-1] |= {"aligned": float(cosines.amax(0).min())}
            if seed % seeds == 0:
                order = cosines.argmax(0).argsort()
                rows += [
                    {"what": "picture", "guide": kind, "step": i, "pixels": as_text(p)}
                    for i, p in enumerate((unit * _signs(unit, directions)).T[order])
                ]
    table = pd.DataFrame(rows)
    return table.assign(what=table.what.fillna("look"))


def _signs(unit: torch.Tensor, directions: torch.Tensor) -> torch.Tensor:
    """(L,) 1 or −1: a column is determined only up to its sign."""
    cosines = directions @ unit
    return cosines.gather(0, cosines.abs().argmax(0, keepdim=True)).sign()[0]


def closed_forms(pair: vb.Pair, x: torch.Tensor) -> dict[str, float]:
    """ELBO, evidence and KL in nats per datum, in double precision; the KL is computed independently, from guide and posterior."""
    precise = pair.copy().load({name: value.double() for name, value in pair.parameters.items()})
    with precise.scope(), vb.seeded(None), torch.no_grad():
        assert precise.exact is not None
        q, _ = precise.run(vb.Batch((x,)))
        own, posterior = q.nodes["z"]["fn"], precise.exact.posterior(x)["z"]
        spread = own.covariance_matrix[0] if hasattr(own, "covariance_matrix") else own.variance[0].diag()
        right = MultivariateNormal(posterior.mean, posterior.covariance_matrix[0])
        kl = kl_divergence(MultivariateNormal(own.mean, spread), right).mean()
        elbo, evidence = (f(x) / len(x) for f in (precise.exact.elbo, precise.exact.log_evidence))
    return {"elbo": float(elbo), "evidence": float(evidence), "kl": float(kl)}


def looks_of(table: pd.DataFrame) -> pd.DataFrame:
    """The rows without pictures."""
    return table[table.what == "look"]


def verdict(table: pd.DataFrame) -> str:
    own = looks_of(table)
    identity = (own.evidence - own.elbo - own.kl).abs().max()
    ends = own[own.step == own.step.max()]
    short, gap = ends.highest - ends.evidence, ends.evidence - ends.elbo
    checks = {
        "log p(x) = ELBO + KL": bool(((own.evidence - own.elbo - own.kl).abs() < 1e-6).all()), "the highest evidence is reached": bool((short < ENOUGH).all()), "it is not passed": bool((short > -1e-6).all()),
        "the gap closes": bool((gap < ENOUGH).all()),
    }  # fmt: skip
    aligned = ends[ends.guide == "diagonal"].aligned.min()
    said = "; ".join(
        f"{kind}, {short[ends.guide == kind].max():.1e} below the maximum, with a gap of {gap[ends.guide == kind].max():.1e}"
        for kind in COLOURS
    )
    return (
        f"{head(checks, {'the columns have turned': bool(aligned > ALIGNED)})}: log p(x) = ELBO + KL to {identity:.0e} nats at all {len(own)} looks, with KLs of up to {own.kl.max():.2g}. After {ends.step.max()} steps, in nats per "
        f"digit, the worst of {ends.seed.nunique()}: {said}. The diagonal guide's columns are within a cosine of {aligned:.3f} of principal directions, the full one's "
        f"of {ends[ends.guide == 'full'].aligned.max():.3f}; turning those could win no more than the gap."
    )


def figure(table: pd.DataFrame) -> plt.Figure:
    own = looks_of(table)
    drawing = plt.figure(figsize=(12, 4), layout="constrained")
    left, right = drawing.subfigures(1, 2, width_ratios=[1.5, 1])
    bounds, gaps = left.subplots(1, 2)
    for kind, colour in COLOURS.items():
        here = own[(own.guide == kind) & (own.seed == own.seed.min()) & (own.step > 0)]
        bounds.plot(here.step, here.evidence, color=colour, lw=1.3, label=f"log p(x), {kind} guide")
        bounds.plot(here.step, here.elbo, "--", color=colour, lw=1.3, label=f"ELBO, {kind} guide")
        gaps.plot(here.step, here.kl, "--", color=colour, marker="o", ms=3.5, lw=1, label=f"KL(q ‖ posterior), {kind}")
        gaps.plot(here.step, here.highest - here.evidence, color=colour, lw=1.4, label=f"maximum − log p(x), {kind}")
    highest = own.highest.iloc[0]
    bounds.axhline(highest, color="#444444", lw=1, ls=":")
    bounds.text(own.step[own.step > 0].min(), highest + 2, "maximum likelihood, closed form", fontsize=9, va="bottom")
    bounds.set(xscale="log", ylim=(-70, highest + 14), xlabel="training step", ylabel="nats per digit")
    bounds.set_title("Evidence and ELBO", loc="left", fontsize=11)
    gaps.set(xscale="log", yscale="log", xlabel="training step", ylabel="nats per digit")
    gaps.set_title("Gaps that close", loc="left", fontsize=11)
    for ax in (bounds, gaps):
        ax.grid(**GRID)
        ax.spines[["top", "right"]].set_visible(False)
        ax.legend(frameon=False, fontsize=8.5)
    names = {"closed form": "closed form", "diagonal": "diagonal guide", "full": "full guide"}
    pictures = table[table.what == "picture"]
    grid = right.subplots(len(names), int((pictures.guide == "closed form").sum()), squeeze=False)
    for axes, (kind, label) in zip(grid, names.items(), strict=True):
        draw_row(pictures[pictures.guide == kind].pixels, list(axes), label=label, signed=True)
    right.suptitle("Columns of W, one for each latent dimension", fontsize=11)
    return drawing


experiment = vb.Experiment(
    question="Does the linear variational autoencoder reach the exact evidence, and the maximum likelihood of probabilistic PCA?",
    claim="The posterior of probabilistic PCA is linear in x with the same covariance for all data, so a linear guide can equal it: the gap, KL(q‖posterior), closes, and the maximum "
    "of the ELBO is that of the likelihood; with a diagonal guide the columns of W are principal directions there (Tipping & Bishop 1999; Lucas et al. 2019, arXiv:1911.02469).",
    measure=measure,
    full={"latent": 5, "steps": 10_000, "looks": 12, "seeds": 3},
    quick={"steps": 800, "looks": 4, "seeds": 1},
    figure=figure,
    verdict=verdict,
    notes="Handwritten digits, all 1797 at once, sticking the landing, three decreasing learning rates. ELBO, evidence and KL come from separate closed forms, in nats per "
    "digit. `highest`: the evidence at the closed-form maximum. `aligned`: the smallest cosine between a column of W and its nearest principal direction.",
    summary=lambda table: looks_of(table).drop(columns=["what", "pixels"]),
    sections=("guide",),
)
