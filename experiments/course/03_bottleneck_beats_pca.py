"""Does a non-linear bottleneck reconstruct digits, also held-out ones, better than PCA with the same code size?"""

from __future__ import annotations

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import torch
from answers import above, every, head
from pixels import as_text, draw_row
from sklearn.decomposition import PCA

import vbayes as vb
from vbayes.plots.palette import GRID

HELD_OUT, SHOWN = 297, 10
COLOURS = {"PCA": "#444444", "autoencoder": "#0072B2"}
PARTS = {"seen": "training digits", "held out": "held-out digits"}


def trained(hidden: int, data: vb.Dataset, epochs: int, seed: int) -> vb.Pair:
    """Fits with a large learning rate, then with a small one; the held-out digits are not used for deciding when to stop."""
    pair = vb.pairs.bottleneck_autoencoder(data.first.shape[1], hidden, seed=seed)
    for rate, count in ((3e-3, epochs), (3e-4, epochs // 4)):
        pair = vb.fit(pair, data, epochs=count, batch_size=100, learning_rate=rate, seed=seed, progress=False).pair
    return pair


def measure(*, hidden: list[int], splits: int, epochs: int) -> pd.DataFrame:
    """Squared errors of PCA and of the autoencoder, on training digits and on held-out ones."""
    data, rows = vb.data.digits(binary=False), []
    for split in range(splits * vb.default_seed(), splits * (vb.default_seed() + 1)):
        order = torch.randperm(len(data), generator=torch.Generator().manual_seed(split))
        parts = {"seen": data.rows(order[HELD_OUT:]), "held out": data.rows(order[:HELD_OUT])}
        for size in hidden:
            pca = PCA(size, svd_solver="full").fit(parts["seen"].first.numpy())
            pair = trained(size, parts["seen"], epochs, split)
            for part, digits in parts.items():
                x = digits.first.numpy()
                linear = pca.inverse_transform(pca.transform(x))
                ours = vb.reconstruct(pair, digits)
                errors = ((x - linear) ** 2).sum(1), ours.squared_error.numpy()
                gain = errors[0] - errors[1]
                rows.append(
                    {
                        "what": "fit", "split": split, "hidden": size, "digits": part, "pca": errors[0].mean(), "autoencoder": errors[1].mean(),
                        "gain": gain.mean(), "gain_se": gain.std(ddof=1) / len(gain) ** 0.5,
                    }
                )  # fmt: skip
            if split % splits == 0:
                first = digits.tensors["label"].numpy()
                chosen = [int(np.flatnonzero(first == label)[0]) for label in range(SHOWN)]
                shown = {"digit": x, "PCA": linear, "autoencoder": ours.mean.numpy()}
                rows += [
                    {"what": f"picture of {name}", "hidden": size, "split": i, "pixels": as_text(pictures[i])}
                    for name, pictures in shown.items()
                    for i in chosen
                ]
                if size == 2:
                    for name, code in (("PCA", pca.transform(x)), ("autoencoder", ours.code.numpy())):
                        rows += [
                            {"what": f"code of {name}", "hidden": size, "label": int(label), "h1": h[0], "h2": h[1]}
                            for label, h in zip(first, code, strict=True)
                        ]
    return pd.DataFrame(rows)


def verdict(table: pd.DataFrame) -> str:
    own = table[table.what == "fit"]
    z = own.gain / own.gain_se
    new = own[own.digits == "held out"].groupby("hidden")[["pca", "autoencoder"]].mean()
    said = ", ".join(f"{row.autoencoder:.2f} against {row.pca:.2f} with {size}" for size, row in new.iterrows())
    return (
        f"{head({'better than PCA, seen and held out': every(map(above, own.pca - own.autoencoder, own.gain_se))})}: the squared error of a held-out digit is {said} hidden units. The gain over PCA is at least "
        f"{z.min():.0f} of its standard errors, for digits seen and held out, in each of {own.split.nunique()} splits."
    )


def figure(table: pd.DataFrame) -> plt.Figure:
    drawing = plt.figure(figsize=(11.5, 6.8), layout="constrained")
    top, bottom = drawing.subfigures(2, 1, height_ratios=[1.15, 1])
    own = table[table.what == "fit"]
    codes = [name for name in COLOURS if (table.what == f"code of {name}").any()]
    axes = top.subplots(1, 1 + len(codes), squeeze=False)[0]
    for name, column in (("PCA", "pca"), ("autoencoder", "autoencoder")):
        for part, style, marker in (("seen", "--", "o"), ("held out", "-", "D")):
            mean = own[own.digits == part].groupby("hidden")[column].mean()
            axes[0].plot(
                mean.index, mean, style, marker=marker, ms=5, mec="white", color=COLOURS[name], label=f"{name}, {PARTS[part]}"
            )  # fmt: skip
    counts = sorted(set(own.hidden))
    axes[0].set(
        xscale="log",
        xlabel="code dimensions, dim(h)",
        ylabel="squared error per digit",
        ylim=(0, 1.4 * own[["pca", "autoencoder"]].to_numpy().max()),  # space for the legend
    )
    axes[0].set_title("Reconstruction error", loc="left", fontsize=11)
    axes[0].set_xticks(counts, counts)
    axes[0].minorticks_off()
    axes[0].grid(**GRID)
    axes[0].legend(frameon=False, fontsize=9, handlelength=4)
    for ax, name in zip(axes[1:], codes, strict=True):
        points = table[table.what == f"code of {name}"]
        ax.scatter(points.h1, points.h2, c=points.label, cmap="tab10", vmin=-0.5, vmax=9.5, s=4, alpha=0.5)
        for label, mean in points.groupby("label")[["h1", "h2"]].median().iterrows():
            ax.text(mean.h1, mean.h2, f"{label:g}", ha="center", va="center", fontsize=12, fontweight="bold")
        ax.set(xticks=[], yticks=[])
        ax.set_xlabel("code h₁")
        ax.set_ylabel("code h₂")
        ax.set_title(f"{name.replace('a', 'A', 1) if name != 'PCA' else name}: codes of held-out digits", loc="left", fontsize=11)  # fmt: skip
    for ax in axes:
        ax.spines[["top", "right"]].set_visible(False)
    pictures = table[table.what.str.startswith("picture")]
    sizes = sorted(set(pictures.hidden))[:2]
    lines = [("digit", sizes[0]), *((name, size) for size in sizes for name in COLOURS)]
    grid = bottom.subplots(len(lines), SHOWN)
    for line, (name, size) in zip(grid, lines, strict=True):
        chosen = pictures[(pictures.what == f"picture of {name}") & (pictures.hidden == size)]
        draw_row(chosen.pixels, list(line), label="held-out digit" if name == "digit" else f"{name}, dim(h) = {size}")
    return drawing


experiment = vb.Experiment(
    question="Does a non-linear bottleneck reconstruct digits, also held-out ones, better than PCA with the same code size?",
    claim="An autoencoder with a low-dimensional code is a non-linear PCA: with the same code size it reconstructs better (Hinton & Salakhutdinov 2006).",
    measure=measure,
    full={"hidden": [2, 5, 10, 20], "splits": 5, "epochs": 400},
    quick={"hidden": [2, 5, 10], "splits": 2, "epochs": 120},
    figure=figure,
    verdict=verdict,
    notes="Handwritten digits with ink from 0 to 1; squared error summed over 64 pixels; 1500 training digits and 297 held out, in random splits. `gain`: PCA's "
    "error minus the autoencoder's for the same digit, with its standard error over digits. Networks 64-128-h-128-64.",
    summary=lambda table: table[table.what == "fit"][
        ["split", "hidden", "digits", "pca", "autoencoder", "gain", "gain_se"]
    ],
    sections=("split",),
)
