"""Does the gradient of the importance-weighted bound lose its signal as particles are added?"""

from __future__ import annotations

import math

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pyro
import pyro.distributions as dist
import torch
from course.answers import every, head

import vbayes as vb
from vbayes.laboratory import moments
from vbayes.laboratory.bench import BLOCKS
from vbayes.laboratory.replicas import Replicas
from vbayes.plots.palette import GRID, style
from vbayes.progress import bar
from vbayes.staging import draw_noise

LAWS = {
    ("iwae", "model"): 0.5,
    ("iwae", "guide"): -0.5,
    ("dreg", "guide"): 0.5,
    ("vimco", "guide"): -0.5,
    ("ovis", "guide"): 0.5,
}
FROM = 8  # particles; the laws are asymptotic in K


def linear_gaussian(dimensions: int, rows: int, away: float) -> tuple[vb.Pair, vb.Batch]:
    """z ~ N(μ, I), x ~ N(z, I), q(z|x) = N(x/2 + b, 2/3 I), with parameters drawn at scale `away` around the optimal ones.

    References:
        Rainforth et al. 2018, Tighter variational bounds are not necessarily better, arXiv:1802.04537, section 4.
    """
    with vb.seeded(None):
        x = torch.randn(rows, dimensions) * math.sqrt(2)
        start = {name: away * torch.randn(dimensions) for name in ("mu", "b")}

    def model(x: torch.Tensor) -> None:
        mu = pyro.param("mu", lambda: start["mu"])
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", dist.Normal(mu, 1.0).to_event(1))
            pyro.sample("x", dist.Normal(z, 1.0).to_event(1), obs=x)

    def guide(x: torch.Tensor) -> None:
        b = pyro.param("b", lambda: start["b"])
        with pyro.plate("data", len(x)):
            pyro.sample("z", dist.Normal(x / 2 + b, math.sqrt(2 / 3)).to_event(1))

    batch = vb.Batch((x,))
    return vb.Pair(model, guide, name="linear_gaussian").initialise(batch), batch


def measure(*, particles: list[int], replicas: int, dimensions: int, rows: int, away: float) -> pd.DataFrame:
    """SNR of each estimator's gradient, for model and guide parameters, by number of particles."""
    pair, batch = linear_gaussian(dimensions, rows, away)
    index = {"model": torch.arange(dimensions), "guide": torch.arange(dimensions) + dimensions}
    if list(pair.parameters) != ["mu", "b"]:
        index = {"guide": index["model"], "model": index["guide"]}
    first = BLOCKS * vb.default_seed()
    size, found = -(-replicas // BLOCKS), []
    jobs = [(name, k) for name in ("iwae", "dreg", "vimco", "ovis") for k in particles]
    with bar("SNR", len(jobs), show=True) as advance:
        for number, (name, k) in enumerate(jobs, start=1):
            method = Replicas(pair, vb.ESTIMATORS[name](k), batch, compiled=True)

            def blocks(method: Replicas = method):
                for block in range(BLOCKS):
                    with vb.seeded(first + block):
                        noise = draw_noise(method.sizes, size, batch.args[0])
                    yield method.gradients(pair, noise, first + block)

            drawn = moments.collect(blocks(), torch.zeros(2 * dimensions, dtype=torch.float64), size)
            for part, where in index.items():
                if part == "guide" or name == "iwae":
                    snr, se = moments.snr(drawn.select(where))
                    found.append({"estimator": name, "part": part, "particles": k, "snr": snr, "snr_se": se})
            advance(number, lambda name=name, k=k: f"{name}, {k} particles")
    return pd.DataFrame(found)


def slopes(table: pd.DataFrame) -> pd.DataFrame:
    """Of log SNR on log K, by weighted least squares over K ≥ 8, with 95 % intervals."""
    rows = []
    for (name, part), own in table[table.particles >= FROM].groupby(["estimator", "part"], sort=False):
        seen = own[own.snr > 3 * own.snr_se]
        if len(seen) < 3:
            rows.append(
                {
                    "estimator": name,
                    "part": part,
                    "slope": np.nan,
                    "low": np.nan,
                    "high": np.nan,
                    "law": LAWS[name, part],
                }
            )
            continue
        x, y, w = np.log(seen.particles), np.log(seen.snr), (seen.snr / seen.snr_se) ** 2
        centred = x - np.average(x, weights=w)
        slope = float((w * centred * y).sum() / (w * centred**2).sum())
        left = y - np.average(y, weights=w) - slope * centred
        # Curvature counts as noise: the larger of the errors' size and the residuals'.
        scale = max(1.0, float((w * left**2).sum() / max(len(seen) - 2, 1)))
        half = 1.96 * math.sqrt(scale / float((w * centred**2).sum()))
        rows.append(
            {
                "estimator": name,
                "part": part,
                "slope": slope,
                "low": slope - half,
                "high": slope + half,
                "law": LAWS[name, part],
            }
        )
    return pd.DataFrame(rows)


def verdict(table: pd.DataFrame) -> str:
    said, right = [], []
    for row in slopes(table).itertuples():
        if np.isnan(row.slope):
            said.append(f"{row.estimator}'s signal for the {row.part} drowns in noise")
            right.append(None)
            continue
        said.append(
            f"{row.estimator} {row.slope:+.2f} [{row.low:+.2f}, {row.high:+.2f}] for the {row.part} (law {row.law:+.1f})"
        )
        right.append(bool(abs(row.slope - row.law) < 0.15))
    return f"{head({'the laws within 0.15': every(right)})}: SNR grows like K to the power of " + "; ".join(said) + "."


def figure(table: pd.DataFrame) -> plt.Figure:
    drawing, axes = plt.subplots(1, 2, figsize=(10, 4), sharey=True, layout="constrained")
    fitted = slopes(table).set_index(["estimator", "part"])
    names, counts = list(dict.fromkeys(table.estimator)), sorted(set(table.particles))
    for ax, part in zip(axes, ("model", "guide"), strict=True):
        for name, own in table[table.part == part].groupby("estimator", sort=False):
            label, colour, marker = style(name, names)
            text = f"{label}: $K^{{{fitted.loc[(name, part)].slope:+.2f}}}$"
            ax.errorbar(
                own.particles,
                own.snr,
                yerr=own.snr_se,
                color=colour,
                marker=marker,
                label=text,
                lw=1.4,
                ms=6,
                mec="white",
                mew=0.5,
            )
        ax.set(xscale="log", yscale="log", xlabel="particles K", title=f"gradient of the {part}")
        ax.set_xticks(counts, counts)
        ax.minorticks_off()
        ax.grid(**GRID)
        ax.spines[["top", "right"]].set_visible(False)
        ax.legend(frameon=False, fontsize=9)
    axes[0].set_ylabel("SNR = ‖mean‖ / √trace of covariance")
    return drawing


experiment = vb.Experiment(
    question="Does the gradient of the importance-weighted bound lose its signal as particles are added?",
    claim="For the guide SNR falls like 1/√K with the pathwise gradient and grows like √K with the doubly reparameterised one; for the model it grows like "
    "√K (Rainforth et al. 2018, arXiv:1802.04537; Tucker et al. 2019, arXiv:1810.04152). The score function with the right baseline does as well "
    "(Liévin et al. 2020, arXiv:2008.01998).",
    measure=measure,
    full={"particles": [2, 4, 8, 16, 32, 64, 128, 256], "replicas": 20_000, "dimensions": 5, "rows": 4, "away": 0.1},
    quick={"particles": [4, 8, 16, 32, 64], "replicas": 8_000},
    figure=figure,
    verdict=verdict,
    notes="All parameters of a part together; slopes of log SNR on log K for K ≥ 8, with 95 % intervals.",
)
