"""What does regularisation towards a prior do to an autoencoder, from none to too much?"""

from __future__ import annotations

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from answers import above, every, head
from pictures import split, trained

import vbayes as vb
from vbayes.plots import images

SHOWN = 24


def measure(*, betas: list[float], warm_up: int, latent: int, hidden: int, epochs: int) -> pd.DataFrame:
    """Reconstruction error, ELBO, evidence and samples from the prior, for VAEs trained with β times the KL; the last one with β = 1 after a warm-up."""
    seed = vb.default_seed()
    train, held = split(seed=seed)
    rows = []
    for name, estimator in {
        **{f"β = {beta:g}": vb.Beta(beta=beta) for beta in betas},
        f"β = 1 after {warm_up} steps": vb.Beta(beta=1.0, warm_up=warm_up),
    }.items():
        fit = trained(train, latent=latent, hidden=hidden, epochs=epochs, seed=seed, estimator=estimator)
        space, use = vb.LatentSpace(fit), vb.latent_use(fit, held, seed=seed)
        mean, _ = space.encode(held)
        _, made = space.generate(SHOWN, seed=seed)
        elbo = vb.log_evidence(fit, method="elbo", num_particles=20, progress=False)
        last = fit.history.elbo_per_datum.tail(max(1, fit.steps // 20))
        evidence = vb.log_evidence(fit, held, method="iw", num_particles=500, progress=False)
        errors = (space.decode(mean) - held.first).square().sum(1)
        rows.append(
            {
                "trained": name,
                "error": float(errors.mean()),
                "error_se": float(errors.std()) / len(errors) ** 0.5,
                "kl": use.kl.sum(),
                "in_use": int((~use.collapsed).sum()),
                "log_p": evidence.value / evidence.rows,
                "log_p_se": evidence.per_datum.std() / evidence.rows**0.5,
                "elbo_reported": last.mean(),
                "elbo": elbo.value / elbo.rows,
                "pictures": space.as_images(made).tolist(),
            }
        )
    return pd.DataFrame(rows)


def verdict(table: pd.DataFrame) -> str:
    found = table.set_index("trained")
    free, one, most = found.loc["β = 0"], found.loc["β = 1"], found.iloc[-2]
    warmed = found.iloc[-1]
    rest = found.drop("β = 0")
    quiet = every([most.in_use < one.in_use, above(one.log_p - most.log_p, np.hypot(one.log_p_se, most.log_p_se))])
    honest = bool(((found.elbo_reported - found.elbo).abs() < 0.02 * found.elbo.abs() + 0.3).all())
    checks = {
        "without it a digit is rebuilt best": every(map(above, rest.error - free.error, np.hypot(rest.error_se, free.error_se))), "with it data are more probable": above(one.log_p - free.log_p, np.hypot(one.log_p_se, free.log_p_se)),
        "the history reports the ELBO": honest,
    }  # fmt: skip
    first = head(checks, {"too much of it silences dimensions": quiet})
    return (
        f"{first}: without a pull towards the prior a code is rebuilt to a squared error of {free.error:.2f} a digit held out (with β = 1 {one.error:.2f}), but log p(x) is {free.log_p:.1f} nats in place of "
        f"{one.log_p:.1f} ± {one.log_p_se:.1f}: it has learnt to copy, not what digits are. With {found.index[-2]} {most.in_use} of its dimensions are in use (β = 1: {one.in_use}), and log p(x) is {most.log_p:.1f}. "
        f"A warm-up of the KL ends at {warmed.log_p:.1f}, {warmed.in_use} dimensions in use. Whatever β, what the history reports is the ELBO: {(found.elbo_reported - found.elbo).abs().max():.2f} nats at most between its end and the ELBO measured afterwards."
    )


def figure(table: pd.DataFrame) -> plt.Figure:
    drawing, axes = plt.subplots(1, len(table), figsize=(2.9 * len(table), 3.2), layout="constrained")
    for ax, row in zip(axes, table.itertuples(), strict=True):
        images(np.array(row.pictures), ax, columns=6)
        ax.set_title(
            f"{row.trained}\nlog p(x) {row.log_p:.1f} nats\nsquared error {row.error:.1f}\n{row.in_use} active latents".replace(
                "-", "−"
            ),
            loc="left",
            fontsize=10,
        )
    drawing.suptitle("Samples from the prior; evidence and reconstruction error per held-out digit", x=0.01, ha="left", fontsize=11)  # fmt: skip
    return drawing


experiment = vb.Experiment(
    question="What does regularisation towards a prior do to an autoencoder, from none to too much?",
    claim="Without constraints an autoencoder can reconstruct perfectly and learn nothing; a variational autoencoder pulls the code towards a prior (course, claim 3).",
    measure=measure,
    full={"betas": [0.0, 0.25, 1.0, 2.0, 8.0], "warm_up": 2000, "latent": 20, "hidden": 256, "epochs": 500},
    quick={"betas": [0.0, 0.25, 1.0, 4.0], "warm_up": 500, "hidden": 128, "epochs": 100},
    figure=figure,
    verdict=verdict,
    notes="`error`: squared error of the mean picture at the mean of q(z|x). `kl`, `log_p`, `elbo`: nats per digit; `log_p` is the bound with 500 particles, on held-out digits. `elbo_reported`: mean of the last twentieth of the history.",
    summary=lambda table: table.drop(columns="pictures"),
)
