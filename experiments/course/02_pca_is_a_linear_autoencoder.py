"""Does a linear autoencoder find the principal components, and with a wide code just the identity?"""

from __future__ import annotations

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import torch
from answers import every, head
from pixels import as_text, draw_row
from scipy.linalg import subspace_angles
from sklearn.decomposition import PCA

import vbayes as vb
from vbayes.plots.palette import GRID

SHOWN = 5  # hidden units of the fit whose pictures are shown
MOST_DEGREES, MOST_LOSS, MOST_LEFT, MOST_OFF = 1.0, 1e-3, 1e-3, 0.05
KNOWN = 1e-3  # fraction of the total variance; in directions with less, the data don't determine W


def shuffled(x: np.ndarray) -> np.ndarray:
    """Pictures that are not digits: each pixel is shuffled over the data separately."""
    generator = np.random.default_rng(vb.default_seed())
    return np.stack([generator.permutation(column) for column in x.T], 1)


def trained(pair: vb.Pair, data: vb.Dataset, steps: int, seed: int) -> vb.Fit:
    """Fits a pair with a large learning rate, then with a small one."""
    rough = vb.fit(pair, data, steps=steps, learning_rate=0.03, seed=seed, progress=False)
    return vb.fit(rough.pair, data, steps=steps // 4, learning_rate=0.003, seed=seed, progress=False)


def measure(*, hidden: list[int], seeds: int, steps: int) -> pd.DataFrame:
    """Compares linear autoencoders of the digits, from several random starts, with scikit-learn's PCA."""
    data = vb.data.digits(binary=False)
    x = data.first.double().numpy()
    total = float(x.var(0).sum())
    others = shuffled(x)
    eigenvalues, directions = (each[..., ::-1] for each in np.linalg.eigh(np.cov(x.T, bias=True)))
    known = directions[:, eigenvalues > KNOWN * total]
    rows = [
        {"what": "PCA", "hidden": k, "discarded_eigenvalues": float(eigenvalues[k:].sum()), "total": total}
        for k in range(1, len(eigenvalues))
    ]
    for size in hidden:
        for seed in range(seeds * vb.default_seed(), seeds * (vb.default_seed() + 1)):
            pair = vb.pairs.linear_autoencoder(x.shape[1], size, seed=seed)
            fit = trained(pair, data, steps, seed)
            weight, offset = (fit.parameters[k].double().numpy() for k in ("weight", "offset"))
            error, strange = (
                float(((z - offset - (z - offset) @ weight @ weight.T) ** 2).sum(1).mean()) for z in (x, others)
            )
            row = {
                "what": "fit", "hidden": size, "seed": seed, "squared_error": error, "error_of_shuffled": strange, "total": total,
            }  # fmt: skip
            if size < x.shape[1]:
                pca = PCA(size, svd_solver="full").fit(x)
                off = offset - pca.mean_
                row |= {
                    "discarded_eigenvalues": float(eigenvalues[size:].sum()),
                    "degrees": float(np.degrees(subspace_angles(weight, pca.components_.T)).max()),
                    # The component of b within the span of W has no effect.
                    "offset": float(np.linalg.norm(off - weight @ (weight.T @ off))),
                    "orthonormal": float(np.abs(weight.T @ weight - np.eye(size)).max()),
                }
            else:
                row["identity"] = float(np.linalg.norm(weight @ (weight.T @ known) - known, axis=0).max())
            rows.append(row)
            if size == SHOWN and seed % seeds == 0:
                rows += _pictures(weight, pca.components_, fit.pair, data)
    return pd.DataFrame(rows)


def _pictures(weight: np.ndarray, components: np.ndarray, pair: vb.Pair, data: vb.Dataset) -> list[dict[str, object]]:
    some = data.rows(torch.arange(SHOWN))
    turned = np.linalg.svd(weight.T @ components.T)  # the closest rotation of h (Schönemann 1966)
    shown = {
        "principal directions": components,
        "columns of W": weight.T,
        "columns of W, rotated": (weight @ turned.U @ turned.Vh).T,
        "digits": some.first,
        "reconstructions": vb.reconstruct(pair, some).mean,
    }
    return [
        {"what": name, "hidden": SHOWN, "seed": i, "pixels": as_text(picture)}
        for name, pictures in shown.items()
        for i, picture in enumerate(pictures)
    ]


def fits(table: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The fits whose code is narrower than the data, and the others."""
    own = table[table.what == "fit"]
    return own[own.discarded_eigenvalues.notna()], own[own.discarded_eigenvalues.isna()]


def verdict(table: pd.DataFrame) -> str:
    narrow, wide = fits(table)
    excess = narrow.squared_error / narrow.discarded_eigenvalues - 1
    left = wide.squared_error / wide.total
    checks = {
        "W spans the principal directions": every(narrow.degrees < MOST_DEGREES), "the loss is the eigenvalues left out": every(excess.abs() < MOST_LOSS),
        "b is the mean": every(narrow.offset < 0.01 * narrow.total**0.5), "a wide code rebuilds everything": every(left < MOST_LEFT),
        "W Wᵀ = I": every(wide.identity < MOST_OFF),
    }  # fmt: skip
    return (
        f"{head(checks)}: from {narrow.seed.nunique()} starts each, with {_said(narrow)} hidden units the span of W is at most "
        f"{narrow.degrees.max():.2g}° off that of the principal directions, the squared error {excess.max():.1e} above the eigenvalues left out, "
        f"and b, off that span, {narrow.offset.max():.1e} from the mean; with {_said(wide)} hidden units {left.max():.1e} of the digits' variance is left, W Wᵀ is the identity to {wide.identity.max():.1g} in the "
        f"directions that digits have (b is then free: it cancels), "
        f"and of pictures that are no digits {(wide.error_of_shuffled / wide.total).max():.2g}, where {narrow.hidden.max()} hidden units leave "
        f"{(narrow.error_of_shuffled / narrow.total)[narrow.hidden == narrow.hidden.max()].min():.2g}."
    )


def _said(table: pd.DataFrame) -> str:
    return ", ".join(str(h) for h in sorted(set(table.hidden)))


def figure(table: pd.DataFrame) -> plt.Figure:
    drawing = plt.figure(figsize=(10.5, 4.6), layout="constrained")
    left, right = drawing.subfigures(1, 2, width_ratios=[1, 1.25])
    ax = left.subplots()
    narrow, wide = fits(table)
    known = table[table.what == "PCA"]
    ax.plot(
        known.hidden,
        known.discarded_eigenvalues / known.total,
        color="#444444",
        lw=1.2,
        label="PCA: discarded eigenvalues",
    )
    own = pd.concat([narrow, wide])
    ax.plot(
        own.hidden,
        own.squared_error / own.total,
        "o",
        color="#0072B2",
        mec="white",
        label="linear autoencoder, digits",
    )
    ax.plot(
        own.hidden,
        own.error_of_shuffled / own.total,
        "D",
        color="#D55E00",
        mfc="none",
        label="linear autoencoder, digits with shuffled pixels",
    )
    ax.set(xscale="log", ylim=(-0.03, 1.3), xlabel="hidden units, dim(h)", ylabel="squared error / total variance")
    ax.set_title("Variance that is not reconstructed", loc="left", fontsize=11)
    counts = sorted(set(own.hidden))
    ax.set_xticks(counts, counts)
    ax.minorticks_off()
    ax.grid(**GRID)
    ax.spines[["top", "right"]].set_visible(False)
    ax.legend(frameon=False, loc="upper right", fontsize=9)
    names = [name for name in dict.fromkeys(table.what) if name not in ("PCA", "fit")]
    if names:
        grid = right.subplots(len(names), SHOWN)
        for line, name in zip(grid, names, strict=True):
            signed = name not in ("digits", "reconstructions")
            draw_row(table[table.what == name].pixels, list(line), label=name, signed=signed)
    return drawing


experiment = vb.Experiment(
    question="Does a linear autoencoder find the principal components, and with a wide code just the identity?",
    claim="The minimum of Σ|(x − b) − W Wᵀ(x − b)|² is PCA where h has fewer dimensions than x: b is the mean, and the columns of W span the leading principal "
    "directions. Otherwise it is trivial: x is rebuilt perfectly, and nothing is learnt (Baldi & Hornik 1989).",
    measure=measure,
    full={"hidden": [1, 2, 5, 10, 20, 64, 96], "seeds": 3, "steps": 4000},
    quick={"hidden": [2, 5, 64, 96], "seeds": 2, "steps": 1200},
    figure=figure,
    verdict=verdict,
    notes="Handwritten digits, all 1797 at once. `discarded_eigenvalues` is the sum of the covariance's eigenvalues that PCA leaves out, `degrees` the largest principal "
    "angle between the span of W and that of scikit-learn's components, `orthonormal` the largest entry of |WᵀW − I|. W is unique but for a rotation "
    "of h, so its columns look like mixtures; rotated, they are the principal directions. `error_of_shuffled` is the squared error of pictures whose pixels come "
    "each from another digit; `identity`, of wide codes, the largest |W Wᵀ v − v| of a principal direction v with a thousandth of the variance or more. `total` is the variance of all pixels together.",
    summary=lambda table: table[table.what == "fit"].drop(columns=["what", "pixels"], errors="ignore"),
    sections=("hidden",),
)
