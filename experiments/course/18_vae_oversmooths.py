"""Are the pictures of a VAE smoother than the data, and does that go with a worse likelihood?"""

from __future__ import annotations

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from answers import every, head, measured, of_repeats, surely
from pictures import split, trained
from sharpness import laplacian_energy, spectrum

import vbayes as vb
from vbayes.plots import images

SHOWN = 24


def measure(*, data: str, rows: int | None, latents: list[int], epochs: int, hidden: int, repeats: int) -> pd.DataFrame:
    """Laplacian energy of reconstructions and samples relative to the data's, and held-out evidence, by number of latents."""
    found = []
    for latent in latents:
        for seed in range(repeats * vb.default_seed(), repeats * (vb.default_seed() + 1)):
            train, new = split(data, seed, rows=rows)
            fit = trained(train, latent=latent, hidden=hidden, epochs=epochs, seed=seed)
            space = vb.LatentSpace(fit)
            evidence = vb.log_evidence(fit, new, method="iw", num_particles=50, progress=False)
            codes = {"reconstructions": space.encode(new)[0], "samples": space.generate(len(new), seed=seed)[0]}
            pictures = {"data": (new.first, new.first)}
            pictures |= {name: (space.decode(z), space.sample(z, seed=seed)) for name, z in codes.items()}
            plain = vb.pairs.bottleneck_autoencoder(train.first.shape[1], latent, width=hidden, seed=seed)
            plain = vb.fit(
                plain, train.first, epochs=epochs, batch_size=100, learning_rate=2e-3, seed=seed, progress=False
            )
            rebuilt = vb.reconstruct(plain.pair, new.first).mean
            pictures["plain autoencoder"] = (rebuilt, rebuilt)
            shown = {name: [space.as_images(each) for each in both] for name, both in pictures.items()}
            sharp = {name: laplacian_energy(each) for name, (each, _) in shown.items()}
            total = float(new.first.var(0, correction=0).sum())
            errors = {name: float((pictures[name][0] - new.first).square().sum(1).mean()) / total for name in ("reconstructions", "plain autoencoder")}  # fmt: skip
            for name, (each, drawn) in shown.items():
                found.append(
                    {"latents": latent, "seed": seed, "pictures": name, "sharpness": sharp[name].mean() / sharp["data"].mean(),
                     "with_drawn_pixels": laplacian_energy(drawn).mean() / sharp["data"].mean(),
                     "squared_error": errors.get(name), "log_p_per_datum": evidence.value / evidence.rows, "spectrum": spectrum(each)[1].tolist(),
                     "shown": each[:SHOWN].tolist() if seed % repeats == 0 else None}
                )  # fmt: skip
    return pd.DataFrame(found)


def verdict(table: pd.DataFrame) -> str:
    made = table[~table["pictures"].isin(["data", "plain autoencoder"])]
    grouped = made.groupby(["pictures", "latents"])
    mean, se = grouped.sharpness.mean(), grouped.sharpness.sem()
    wide = table.pivot(index=["latents", "seed"], columns="pictures", values="sharpness")
    own = dict(list((wide["plain autoencoder"] - wide["reconstructions"]).groupby("latents")))
    near = table[table["pictures"] == "reconstructions"].groupby("latents").squared_error
    checks = {
        "reconstructions are nearer to a datum than the mean of all is": every(surely(1 - error) for _, error in near),
        "mean pictures are smoother than data": every(surely(1 - sharpness) for _, sharpness in grouped.sharpness),
    }  # fmt: skip
    more = {"than a plain autoencoder's, with any number of latents": every(map(surely, own.values()))}
    by_latents = made[made["pictures"] == "reconstructions"].groupby("latents")[["sharpness", "log_p_per_datum"]].mean()
    together = (
        f" (rank correlation with sharpness {by_latents.corr(method='spearman').iloc[0, 1]:+.1f})"
        if len(by_latents) > 2
        else ""
    )  # of two it is always 1
    said = "; ".join(
        f"{name} {', '.join(f'{measured(mean[name, k], se[name, k])} ({k} latents)' for k in by_latents.index)}"
        for name in ("reconstructions", "samples")
    )
    sharper = [f"{measured(*of_repeats(lead), '+.2f')} sharper with {k}" for k, lead in own.items()]
    drawn = made.with_drawn_pixels.min()
    return (
        f"{head(checks, more)}: in parts of the data's, the Laplacian energy of mean pictures is: {said}. Held-out evidence a digit goes from {by_latents.log_p_per_datum.iloc[0]:.1f} to "
        f"{by_latents.log_p_per_datum.max():.1f} nats as latents are added{together}: what smooths is what the latents leave out. A plain autoencoder's reconstructions of the same split, trained by squared "
        f"error, are {', '.join(sharper)}: that is the VAE's own part, the rest that of grey means. With pixels drawn rather than averaged the same "
        f"pictures have {drawn:.2f} or more: independent noise, not the sharpness of strokes."
    )


def figure(table: pd.DataFrame) -> plt.Figure:
    most = table[table.latents == table.latents.max()]
    drawing, axes = plt.subplots(1, 4, figsize=(15, 3.6), layout="constrained", width_ratios=[1, 1, 1, 1.3])
    for ax, name in zip(axes, ("data", "reconstructions", "samples"), strict=False):
        own = most[most["pictures"] == name]
        images(np.array(own.shown.dropna().iloc[0]), ax, columns=6)
        ax.set_title(f"{name}: relative sharpness {own.sharpness.mean():.2f}", loc="left", fontsize=11)
    for name, colour in (("data", "#444444"), ("reconstructions", "#0072B2"), ("samples", "#E69F00")):
        power = np.mean(np.array(most[most["pictures"] == name].spectrum.tolist()), 0)
        axes[3].plot((np.arange(len(power)) + 1) / (2 * len(power)), power, "o-", color=colour, label=name)
    axes[3].set_yscale("log")
    axes[3].set(xlabel="spatial frequency (cycles per pixel)", ylabel="fraction of the power")
    axes[3].set_title(f"Power spectra, {table.latents.max()} latent dimensions", loc="left", fontsize=11)
    axes[3].legend(frameon=False)
    axes[3].spines[["top", "right"]].set_visible(False)
    return drawing


experiment = vb.Experiment(
    question="Are the pictures of a VAE smoother than the data, and does that go with a worse likelihood?",
    claim="Maximum likelihood marginalised over latents generates data that look like averages of many (course, claim 18).",
    measure=measure,
    full={"data": "digits", "rows": None, "latents": [1, 2, 5, 10, 20], "epochs": 500, "hidden": 256, "repeats": 5},
    quick={"latents": [2, 5, 15], "epochs": 100, "hidden": 128, "repeats": 3},
    figure=figure,
    verdict=verdict,
    notes="`sharpness`: mean Laplacian energy of the mean pictures, relative to the data's. `squared_error`: of reconstructions, relative to that of the mean held-out digit. `log_p_per_datum`: bound with 50 particles, held out.",
    summary=lambda table: table.drop(columns=["spectrum", "shown"]),
    sections=("latents", "pictures"),
)
