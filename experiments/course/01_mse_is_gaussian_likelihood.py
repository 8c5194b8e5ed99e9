"""Is minimising the mean squared error the same as maximising the likelihood of a spherical Gaussian?"""

from __future__ import annotations

import math
from collections.abc import Iterator

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import torch
from answers import every, head
from pixels import as_text, draw_row

import vbayes as vb
from vbayes.plots.palette import GRID

HIDDEN, SHOWN = 5, 6
PAIRS = {"linear": vb.pairs.linear_autoencoder, "non-linear": vb.pairs.bottleneck_autoencoder}
COLOURS = {"squared error": "#444444", "0.15": "#56B4E9", "0.3": "#0072B2", "1": "#009E73", "learnt": "#D55E00"}


def log_likelihood(error: float, scale: float, features: int) -> float:
    """ln N(x; x̂, scale² I) in nats, from |x − x̂|²."""
    return -features / 2 * math.log(2 * math.pi * scale**2) - error / (2 * scale**2)


def by_squared_error(pair: vb.Pair, x: torch.Tensor, steps: list[int], rate: float) -> Iterator[vb.Pair]:
    """Minimises Σ|x − x̂|² by Adam, without any density, from the parameters of a pair; yields the pair after each of these numbers of steps."""
    values = {name: value.clone().requires_grad_() for name, value in pair.parameters.items()}
    adam = torch.optim.Adam(values.values(), lr=rate)
    yield pair
    for count in steps:
        for _ in range(count):
            adam.zero_grad()
            (x - rebuilt(values, x)).square().sum().backward()
            adam.step()
        yield pair.copy().load({name: value.detach() for name, value in values.items()})


def rebuilt(values: dict[str, torch.Tensor], x: torch.Tensor) -> torch.Tensor:
    """x̂ from the parameters, by the formulas of the two autoencoders."""
    if "weight" in values:
        return (x - values["offset"]) @ values["weight"] @ values["weight"].T + values["offset"]
    for part in ("encoder", "decoder"):
        first, bias, last, end = (values[f"{part}$$${n}"] for n in ("0.weight", "0.bias", "2.weight", "2.bias"))
        x = torch.tanh(x @ first.T + bias) @ last.T + end
    return x


def by_likelihood(pair: vb.Pair, x: torch.Tensor, steps: list[int], rate: float) -> Iterator[vb.Pair]:
    """Maximises the ELBO, here log p(x, h(x)), by `vb.fit`."""
    fit = vb.fit(pair, x, steps=0, learning_rate=rate, progress=False)
    yield fit.pair
    for count in steps:
        fit = fit.resume(steps=count, progress=False)
        yield fit.pair


def elbo_and_gradient(pair: vb.Pair, x: torch.Tensor) -> tuple[float, torch.Tensor]:
    """ELBO per datum and its gradient in all parameters of the networks, in double precision."""
    precise = pair.copy().load({name: value.double() for name, value in pair.parameters.items()})
    with precise.scope(), vb.seeded(None):
        names = [name for name in precise.parameters if name != "scale"]
        particles = vb.draw(precise, vb.Batch((x.double(),)), 1, {"log_p", "log_q"})
        elbo = particles.log_w.mean()
        gradient = torch.autograd.grad(elbo, [precise.leaves[name] for name in names])
    return float(elbo.detach()), torch.cat([g.reshape(-1) for g in gradient])


def squares_and_gradient(pair: vb.Pair, x: torch.Tensor) -> tuple[float, torch.Tensor]:
    """|x − x̂|² per datum and its gradient, in double precision."""
    x = x.to(pair.device)
    names = [name for name in pair.parameters if name != "scale"]
    values = {name: pair.parameters[name].double().requires_grad_() for name in names}
    error = (x.double() - rebuilt(values, x.double())).square().sum(1).mean()
    gradient = torch.autograd.grad(error, list(values.values()))
    return float(error.detach()), torch.cat([g.reshape(-1) for g in gradient])


def measure(*, pairs: list[str], scales: list[float], steps: int, looks: int) -> pd.DataFrame:
    """Squared error, likelihood and the angle between their gradients, during training on one or the other."""
    x = vb.data.digits(binary=False).first
    features, rows = x.shape[1], []
    left_out = float(np.linalg.eigvalsh(np.cov(x.double().numpy().T, bias=True))[:-HIDDEN].sum())
    parts = [max(1, round(p)) for p in np.diff(np.geomspace(10, steps, looks), prepend=0)]
    for kind in pairs:
        rate = 0.03 if kind == "linear" else 0.003
        for name, scale in {"squared error": 1.0, **{f"{s:g}": s for s in scales}, "learnt": None}.items():
            start = PAIRS[kind](features, HIDDEN, scale=scale).initialise(vb.Batch((x,)))
            train = by_squared_error if name == "squared error" else by_likelihood
            for step, pair in zip(np.cumsum([0, *parts]), train(start, x, parts, rate), strict=True):
                error, downhill = squares_and_gradient(pair, x)
                elbo, uphill = elbo_and_gradient(pair, x)
                now = float(pair.parameters["scale"].double().exp()) if scale is None else scale
                cosine = float(-(uphill @ downhill) / (uphill.norm() * downhill.norm()))
                rows.append(
                    {
                        "what": kind, "training": name, "step": int(step), "scale": now, "squared_error": error, "log_likelihood": elbo,
                        "difference_from_formula": elbo - log_likelihood(error, now, features), "one_minus_cosine": 1 - cosine,
                        "pca_error": left_out if kind == "linear" else None,
                    }
                )  # fmt: skip
            made = vb.reconstruct(pair, x[:SHOWN]).mean
            rows += [
                {"what": f"picture, {kind}", "training": name, "step": i, "pixels": as_text(p)}
                for i, p in enumerate(made)
            ]
    rows += [{"what": "digit", "step": i, "pixels": as_text(p)} for i, p in enumerate(x[:SHOWN])]
    return pd.DataFrame(rows)


def runs(table: pd.DataFrame) -> pd.DataFrame:
    """The rows without pictures."""
    return table[table.what.isin(list(PAIRS))]


def verdict(table: pd.DataFrame) -> str:
    own = runs(table)
    off = (own.difference_from_formula / own.log_likelihood).abs().max()
    turned = own.one_minus_cosine.abs().max()
    ends = own[own.step == own.step.max()]
    linear = ends[ends.what == "linear"]
    excess = (linear.squared_error / linear.pca_error - 1).abs().max()
    learnt = linear[linear.training == "learnt"]
    variance = (learnt.scale**2 / (learnt.squared_error / 64) - 1).abs().max()
    rest = ends[ends.what != "linear"].squared_error
    checks = {
        "the likelihood is on a line in the squared error": bool((own.difference_from_formula.abs() < 1e-9 * own.log_likelihood.abs()).all()), "gradients are parallel": bool((own.one_minus_cosine.abs() < 1e-9).all()),
        "linear trainings end at PCA": every((linear.squared_error / linear.pca_error - 1).abs() < 1e-3),
        "a variance learnt is the error a pixel": variance < 0.01 if len(learnt) else None,
    }  # fmt: skip
    also = f", the non-linear ones at {rest.min():.3f} to {rest.max():.3f}" if len(rest) else ""
    return (
        f"{head(checks)}: at {len(own)} points of {ends.shape[0]} trainings the log-likelihood is off the line in the squared error by at most "
        f"{off:.0e} of its size, and its gradient points where that of the squared error does (1 − cosine at most {turned:.0e}). The linear trainings, on the one or "
        f"the other, end within {excess:.1e} of PCA's squared error{also}; a variance learnt with the linear one ends within {variance:.1e} of the squared error per pixel."
    )


def figure(table: pd.DataFrame) -> plt.Figure:
    own = runs(table)
    drawing = plt.figure(figsize=(12, 4.3), layout="constrained")
    left, right = drawing.subfigures(1, 2, width_ratios=[1.75, 1])
    line, path = left.subplots(1, 2)
    errors = np.geomspace(own.squared_error.min() * 0.8, own.squared_error.max() * 1.2, 200)
    for name in dict.fromkeys(own.training):
        here = own[own.training == name]
        colour = COLOURS.get(name, "#CC79A7")
        label = {"squared error": "squared error alone", "learnt": "likelihood, σ learnt"}.get(name, f"likelihood, σ = {name}")  # fmt: skip
        if name != "squared error":
            scales = errors / 64 if name == "learnt" else np.full_like(errors, float(name) ** 2)
            curve = [log_likelihood(e, s**0.5, 64) for e, s in zip(errors, scales, strict=True)]
            best = {"ls": "--", "label": "the best σ for each error"} if name == "learnt" else {}
            line.plot(errors, curve, color=colour, lw=1.1, **best)
            line.plot(
                here.squared_error, here.log_likelihood, "o", ms=4, color=colour, mec="white", mew=0.4, label=label
            )
        for kind, style in (("linear", "-"), ("non-linear", "--")):
            way = here[(here.what == kind) & (here.step > 0)]
            thick = 4 if name == "squared error" else 1.3
            path.plot(
                way.step, way.squared_error, style, color="#BBBBBB" if thick > 2 else colour, lw=thick,
                label=label if kind == "linear" else None, zorder=1 if thick > 2 else 2,
            )  # fmt: skip
    line.set(
        xlim=(0, min(8.0, errors[-1])),
        ylim=(-150, 60),
        xlabel="squared error per digit, |x − x̂|²",
        ylabel="log-likelihood per digit (nats)",
    )
    line.set_title("The likelihood is linear in the squared error", loc="left", fontsize=11)
    path.set(xscale="log", yscale="log", xlabel="training step", ylabel="squared error per digit")
    path.set_title("Training (solid: linear, dashed: non-linear)", loc="left", fontsize=11)
    for ax in (line, path):
        ax.grid(**GRID)
        ax.spines[["top", "right"]].set_visible(False)
        ax.legend(frameon=False, fontsize=9)
    lines = [("digit", None, "original")]
    lines += [
        (f"picture, {kind}", name, f"{kind},\n{'squared error' if name == 'squared error' else 'likelihood'}")
        for kind in dict.fromkeys(own.what)
        for name in ("squared error", "learnt")
    ]
    grid = right.subplots(len(lines), SHOWN)
    for axes, (what, name, label) in zip(grid, lines, strict=True):
        chosen = table[(table.what == what) & ((table.training == name) if name else True)]
        draw_row(chosen.pixels, list(axes), label=label)
    return drawing


experiment = vb.Experiment(
    question="Is minimising the mean squared error the same as maximising the likelihood of a spherical Gaussian?",
    claim="Yes: log N(x; x̂, σ²I) = −(D/2) ln 2πσ² − |x − x̂|²/2σ². For a fixed σ it is a linear function of the squared error; if σ is learnt too, σ² = MSE/D, and the likelihood still decreases with the squared error.",
    measure=measure,
    full={"pairs": ["linear", "non-linear"], "scales": [0.15, 0.3, 1.0], "steps": 5000, "looks": 10},
    quick={"scales": [0.3], "steps": 600, "looks": 4},
    figure=figure,
    verdict=verdict,
    notes="Autoencoders of the digits with five hidden units, all with the same initial values, trained with Adam. `training`: either on the squared error alone, by a loop without densities, or on the "
    "likelihood with the given σ. `difference_from_formula`: the ELBO minus the formula in the claim, in double precision; `one_minus_cosine`: for the angle between the two "
    "gradients; `pca_error`: PCA's squared error. The points in the figure are those that training went through; the dashed curve, −(D/2)(ln(2π MSE/D) + 1), is the likelihood at the best σ for each error, which a learnt σ approaches.",
    summary=lambda table: runs(table)[runs(table).step == runs(table).step.max()][
        [
            "what",
            "training",
            "scale",
            "squared_error",
            "log_likelihood",
            "difference_from_formula",
            "one_minus_cosine",
            "pca_error",
        ]
    ],
    sections=("what",),
)
