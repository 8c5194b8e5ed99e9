"""Does a penalty on |h| make most of a wide code zero, and under which prior is the result the most probable code?"""

from __future__ import annotations

from functools import partial

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import torch
from answers import above, every, head
from pixels import as_text, draw_row
from scipy import stats
from sklearn.decomposition import sparse_encode

import vbayes as vb
from vbayes.plots.palette import GRID

HELD_OUT, SHOWN = 297, 10


def measure(*, penalties: list[float], hidden: int, epochs: int) -> pd.DataFrame:
    """Codes of held-out digits under several penalties, the log-joint density with a Laplace prior, and the codes that maximise it."""
    data, rows = vb.data.digits(binary=False), []
    order = torch.randperm(len(data), generator=torch.Generator().manual_seed(vb.default_seed()))
    seen, new = data.rows(order[HELD_OUT:]), data.rows(order[:HELD_OUT])
    first = [int((new.tensors["label"] == label).nonzero()[0]) for label in range(SHOWN)]
    rows += [{"what": "digit", "place": i, "pixels": as_text(new.first[row])} for i, row in enumerate(first)]
    for penalty in penalties:
        pair = vb.pairs.sparse_autoencoder(seen.first.shape[1], hidden, penalty=penalty)
        for rate, count in ((3e-3, epochs), (3e-4, epochs // 4)):
            fit = vb.fit(pair, seen, epochs=count, batch_size=100, learning_rate=rate, progress=False)
            pair = fit.pair
        found = vb.reconstruct(pair, new)
        code, x = found.code.double().numpy(), found.x.double().numpy()
        weight = torch.nn.functional.normalize(fit.parameters["weight"], dim=0).double().numpy()
        offset = fit.parameters["offset"].double().numpy()
        best = sparse_encode(x - offset, weight.T, algorithm="lasso_lars", alpha=penalty, max_iter=10_000)

        def joint(h: np.ndarray, b=offset, w=weight, x=x, rate=penalty) -> np.ndarray:
            """log p(x, h) of each datum, computed with SciPy."""
            likelihood = stats.norm.logpdf(x, b + h @ w.T, 1.0).sum(1)
            return likelihood + stats.laplace.logpdf(h, scale=1 / rate).sum(1)

        ours, highest, none = joint(code), joint(best), joint(np.zeros_like(code))
        with pair.scope(), vb.seeded(None), torch.no_grad():
            elbo = vb.draw(pair, vb.Batch((new.first,)), 1, {"log_p", "log_q"}).log_w.squeeze(0).cpu().numpy()
        zero = (code == 0).mean(1)
        near = (np.abs(code) < 0.05 * np.abs(code).max(1, keepdims=True)).mean(1)
        rows.append(
            {
                "what": "fit", "penalty": penalty, "zero": zero.mean(), "zero_se": zero.std(ddof=1) / len(zero) ** 0.5,
                "near_zero": near.mean(), "zero_of_best": (np.abs(best) < 1e-9).mean(), "not_zero": (code != 0).sum(1).mean(), "squared_error": float(found.squared_error.mean()),
                "total": float(x.var(0).sum()), "elbo": ours.mean(), "off": float(np.abs(elbo - ours).max()), "below_best": (highest - ours).mean(),
                "least_below": (highest - ours).min(), "gained": (ours - none).mean(), "hidden": hidden,
            }
        )  # fmt: skip
        # Histogram of the codes, from −2 to 2.
        height, edges = np.histogram(code.reshape(-1), bins=81, range=(-2, 2))
        middle = (edges[:-1] + edges[1:]) / 2
        rows += [
            {"what": "histogram", "penalty": penalty, "h": h, "share": n / code.size}
            for h, n in zip(middle, height, strict=True)
        ]
        used = np.argsort(-np.abs(code).sum(0))[:SHOWN]
        pictures = {"rebuilt": found.mean[first], "column": weight.T[used]}
        rows += [
            {
                "what": name, "penalty": penalty, "place": i, "pixels": as_text(p),
                "not_zero": (code[first[i]] != 0).sum() if name == "rebuilt" else None,
            }
            for name, some in pictures.items()
            for i, p in enumerate(some)
        ]  # fmt: skip
    return pd.DataFrame(rows)


def verdict(table: pd.DataFrame) -> str:
    own = table[table.what == "fit"].sort_values("penalty")
    most = own[own.zero - 2 * own.zero_se > 0.5]
    lost = own.below_best / (own.below_best + own.gained)
    is_map = every([*(own.off < 1e-5 * own.elbo.abs()), *(own.least_below > -1e-4), *(lost < 0.2)])
    rises = zip(own.zero.diff().iloc[1:], np.hypot(own.zero_se, own.zero_se.shift()).iloc[1:], strict=True)
    checks = {
        "the ELBO is log p(x, h), and codes are near the most probable": is_map, "more penalty, more zeros": every(above(*rise) for rise in rises),
        "most of h is zero somewhere": True if len(most) else every(map(partial(above, than=0.5), own.zero, own.zero_se)),
    }  # fmt: skip
    first = head(checks, {f"for penalties below {most.penalty.min():g}": len(most) == len(own)})
    said = ", ".join(f"{r.zero:.0%} ± {r.zero_se:.1%} of h with {r.penalty:g}" for r in own.itertuples())
    return (
        f"{first}: exactly zero are, in a held-out digit, {said} nats for a unit of |h|. The ELBO is log p(x, h) with a Laplace prior on h, to "
        f"{own.off.max():.0e} nats; the most probable codes (lasso) are better by {lost.min():.0%} to {lost.max():.0%} of what h gains in all, and never worse."
    )


def figure(table: pd.DataFrame) -> plt.Figure:
    own = table[table.what == "fit"].sort_values("penalty")
    drawing = plt.figure(figsize=(12, 6.6), layout="constrained")
    top, bottom = drawing.subfigures(2, 1, height_ratios=[1, 1.1])
    histogram, share = top.subplots(1, 2, width_ratios=[1.7, 1])
    colours = plt.get_cmap("viridis")(np.linspace(0.9, 0.1, len(own)))
    for colour, penalty in zip(colours, own.penalty, strict=True):
        rows = table[(table.what == "histogram") & (table.penalty == penalty)]
        histogram.step(
            rows.h, rows.share.where(rows.share > 0), where="mid", color=colour, lw=1.4, label=f"{penalty:g}"
        )
    histogram.set(yscale="log", xlabel="code value h", ylabel="fraction of code values")
    histogram.set_title("Codes of held-out digits", loc="left", fontsize=11)
    histogram.legend(title="penalty λ", frameon=False)
    share.errorbar(
        own.penalty, own.zero, yerr=2 * own.zero_se, color="#0072B2", marker="o", label="exact zeros in h (± 2 SE)"
    )
    share.plot(own.penalty, own.zero_of_best, "--", color="#56B4E9", label="exact zeros in the MAP code (lasso)")
    share.plot(
        own.penalty, own.squared_error / own.total, color="#D55E00", marker="D", label="squared error / total variance"
    )
    share.set(xscale="log", ylim=(0, 1.45), xlabel="penalty λ (nats per unit of |h|)", ylabel="fraction")
    share.set_title("Sparsity and reconstruction error", loc="left", fontsize=11)
    share.set_xticks(own.penalty, [f"{p:g}" for p in own.penalty])
    share.minorticks_off()
    share.set_yticks(np.linspace(0, 1, 6))
    share.legend(frameon=False, fontsize=9, loc="upper left")
    for ax in (histogram, share):
        ax.grid(**GRID)
        ax.spines[["top", "right"]].set_visible(False)
    chosen = list(dict.fromkeys([own.penalty.iloc[0], own.penalty.iloc[len(own) // 2], own.penalty.iloc[-1]]))
    grid = bottom.subplots(1 + 2 * len(chosen), SHOWN)
    draw_row(table[table.what == "digit"].pixels, list(grid[0]), label="held-out digit")
    for i, penalty in enumerate(chosen):
        mine = table[table.penalty == penalty]
        rebuilt, columns = (mine[mine.what == what] for what in ("rebuilt", "column"))
        draw_row(rebuilt.pixels, list(grid[1 + 2 * i]), label=f"reconstructed, λ = {penalty:g}")
        for ax, count in zip(grid[1 + 2 * i], rebuilt.not_zero, strict=True):
            ax.text(1.04, 0.5, f"{count:.0f}", transform=ax.transAxes, fontsize=8, va="center", color="#0072B2")
        draw_row(columns.pixels, list(grid[2 + 2 * i]), label="columns of W used most", signed=True)
    bottom.suptitle("Held-out digits, their reconstructions (blue: non-zero values of h), and the dictionary W", fontsize=11)  # fmt: skip
    return drawing


experiment = vb.Experiment(
    question="Does a penalty on |h| make most of a wide code zero, and under which prior is the result the most probable code?",
    claim="With a penalty Σ|h| most of h is zero. Up to a constant the penalty is −log p(h) of a Laplace prior, so a fit with a point-mass guide seeks the most probable code (MAP) under it.",
    measure=measure,
    full={"penalties": [0.01, 0.03, 0.1, 0.3], "hidden": 128, "epochs": 400},
    quick={"penalties": [0.03, 0.1, 0.3], "epochs": 60},
    figure=figure,
    verdict=verdict,
    notes="Handwritten digits, ink from 0 to 1, 1500 to train on and 297 held out; twice as many hidden units as pixels, columns of W of length 1. `off`: the largest difference between the "
    "ELBO and log p(x, h) by SciPy; `below_best`: how far log p(x, h) is below that of the most probable codes for the same W (scikit-learn's lasso); `gained`: how far it is above that of "
    "h = 0; all in nats per digit. `near_zero`: the fraction of |h| below 5 % of the digit's largest. A draw from a Laplace prior is never exactly zero: the zeros are a property of the most probable code. Blue numbers in the figure: how many values of h are not zero.",
    summary=lambda table: table[table.what == "fit"][
        [
            "penalty",
            "zero",
            "zero_se",
            "near_zero",
            "zero_of_best",
            "not_zero",
            "squared_error",
            "elbo",
            "off",
            "below_best",
            "gained",
        ]
    ],
)
