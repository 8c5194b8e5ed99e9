"""Is a point estimate of θ enough, by maximum likelihood or MAP, or does a posterior over θ predict better?"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pyro
import pyro.distributions as dist
import torch
from answers import above, every, head, measured, not_above
from numpy.polynomial.hermite_e import hermegauss
from pyro.distributions import constraints, transforms
from torch import Tensor

import vbayes as vb

SHAPE, RATE, STRENGTH = 2.0, 2.0, 0.5  # θ = (μ, τ): τ ~ Gamma(2, 2), μ ~ N(0, 1/(½ τ)), x ~ N(μ, 1/τ)
NODES, ENOUGH = 40, 0.01  # quadrature nodes; nats that a point estimate may lose with many data
ML, Q, EXACT = "maximum likelihood", "q(θ)", "exact posterior"
WITH_VARIANCE = 6  # data needed for the loss of maximum likelihood, which grows like 1/χ²(n − 1), to have a variance
COLOURS = {ML: "#D55E00", Q: "#0072B2", EXACT: "#444444"}
Density = Callable[[Tensor], Tensor]  # (R, G) values → log-densities of a new datum, for each of R data sets


class Posterior(NamedTuple):
    """p(μ, τ | x) ∝ τ^(a − ½) exp(−τ (b + κ (μ − m)²/2)): Bishop 2006, section 2.3.6."""

    m: Tensor
    kappa: Tensor
    a: Tensor
    b: Tensor


def posterior(x: Tensor) -> Posterior:
    """The posterior for each row of x (R, n)."""
    count, mean = x.shape[1], x.mean(1)
    kappa = STRENGTH + count
    squares = (x - mean[:, None]).square().sum(1) + STRENGTH * count * mean.square() / kappa
    return Posterior(count * mean / kappa, torch.full_like(mean, kappa), torch.full_like(mean, SHAPE + count / 2), RATE + squares / 2)  # fmt: skip


class Coordinate(NamedTuple):
    """A coordinate v for the scale: transforms from τ to v, the map from v back to τ, and the power of τ in the Jacobian dτ/dv."""

    from_precision: list[transforms.Transform]
    precision: Callable[[Tensor], Tensor]
    power: float


COORDINATES = {
    "precision": Coordinate([], lambda v: v, 0.0),
    "log standard deviation": Coordinate(
        [transforms.PowerTransform(torch.tensor(-0.5, dtype=torch.float64)), transforms.ExpTransform().inv],
        lambda v: (-2 * v).exp(),
        1.0,
    ),
    "standard deviation": Coordinate(
        [transforms.PowerTransform(torch.tensor(-0.5, dtype=torch.float64))], lambda v: v**-2, 1.5
    ),
}


def by_find_map(x: Tensor, coordinate: Coordinate) -> float:
    """The precision at the joint posterior mode of μ and a coordinate of the scale, for one data set (n,)."""

    def model(x: Tensor) -> None:
        prior = dist.Gamma(x.new_tensor(SHAPE), x.new_tensor(RATE))
        value = pyro.sample("scale", dist.TransformedDistribution(prior, coordinate.from_precision))
        sd = coordinate.precision(value).rsqrt()
        mu = pyro.sample("mu", dist.Normal(x.new_zeros(()), sd / math.sqrt(STRENGTH)))
        with pyro.plate("data", len(x)):
            pyro.sample("x", dist.Normal(mu, sd), obs=x)

    return float(coordinate.precision(vb.find_map(model, x).parameters["Point.scale"]))


def variational(x: Tensor, steps: int) -> Density:
    """Predictive density under q(μ) = N(m, s²), q(log τ) = N(g, h²), which maximise the ELBO of each row; log τ is integrated by quadrature, μ in closed form."""

    def model(x: Tensor) -> None:
        with pyro.plate("data", len(x)):
            tau = pyro.sample("tau", dist.Gamma(x.new_tensor(SHAPE), x.new_tensor(RATE)))
            mu = pyro.sample("mu", dist.Normal(x.new_zeros(()), (STRENGTH * tau).rsqrt()))
            each = dist.Normal(mu[:, None], tau.rsqrt()[:, None])
            pyro.sample("x", each.expand(x.shape).to_event(1), obs=x)

    def guide(x: Tensor) -> None:
        def free(name: str, start: Tensor, **how: constraints.Constraint) -> Tensor:
            return pyro.param(name, start.clone, **how)

        mean, spread, one = x.mean(1), x.var(1, correction=0) + 1, x.new_ones(len(x))

        with pyro.plate("data", len(x)):
            scale = free("tau_scale", one / 2, constraint=constraints.positive)
            pyro.sample("tau", dist.LogNormal(free("tau_loc", -spread.log()), scale))
            scale = free("mu_scale", one, constraint=constraints.positive)
            pyro.sample("mu", dist.Normal(free("mu_loc", mean), scale))

    fit = vb.fit(vb.Pair(model, guide), x, vb.STL(4), steps=steps, learning_rate=0.02, progress=False)
    found = {name: value[:, None, None] for name, value in fit.parameters.items()}
    nodes, weights = quadrature(x)
    variance = (-(found["tau_loc"] + found["tau_scale"] * nodes)).exp() + found["mu_scale"].square()
    each = dist.Normal(found["mu_loc"], variance.sqrt())
    return lambda new: (each.log_prob(new[..., None]) + weights.log()).logsumexp(-1)


def quadrature(like: Tensor) -> tuple[Tensor, Tensor]:
    """Nodes and weights for an expectation under N(0, 1)."""
    nodes, weights = hermegauss(NODES)
    return like.new_tensor(nodes), like.new_tensor(weights / weights.sum())


def rules(x: Tensor, steps: int) -> dict[str, Density]:
    """Name of a learning method → its predictive density, given data (R, n)."""
    m, kappa, a, b = posterior(x)
    exact = dist.StudentT(2 * a[:, None], m[:, None], (b * (kappa + 1) / (a * kappa)).sqrt()[:, None])
    found: dict[str, Density] = {EXACT: exact.log_prob}
    if x.shape[1] > 1:  # with one datum the likelihood is unbounded as the standard deviation goes to 0
        found[ML] = dist.Normal(x.mean(1, keepdim=True), x.std(1, keepdim=True, correction=0)).log_prob
    for name, coordinate in COORDINATES.items():
        mode = (a - 0.5 + coordinate.power) / b
        found[f"MAP of the {name}"] = dist.Normal(m[:, None], mode.rsqrt()[:, None]).log_prob
    return found | {Q: variational(x, steps)}


def measure(*, sizes: list[int], repeats: int, steps: int) -> pd.DataFrame:
    """Expected loss of log predictive density of each method against the exact posterior, in nats per new datum, over θ from the prior, data given θ, and new data given θ."""
    rows, grid = [], torch.linspace(-4, 4, 121, dtype=torch.float64)
    for count in sizes:
        tau = dist.Gamma(SHAPE, RATE).sample((repeats, 1)).double()
        mu = torch.randn_like(tau) / (STRENGTH * tau).sqrt()
        x = mu + torch.randn(repeats, count, dtype=torch.float64) / tau.sqrt()
        nodes, weights = quadrature(x)
        found = rules(x, steps)
        score = {name: (weights * density(mu + nodes / tau.sqrt())).sum(1) for name, density in found.items()}
        for name, density in found.items():
            shown = density(grid.expand(repeats, -1))[0].exp()
            row = {"data": count, "learnt": name, "density": shown.tolist(), "seen": x[0].tolist()[:20]}
            row |= of_many("loss", score[EXACT] - score[name]) | of_many("behind", score[Q] - score[name])
            if name == ML and count < WITH_VARIANCE:
                row |= {"loss_se": math.nan, "behind_se": math.nan}
            if name.startswith("MAP"):
                coordinate = COORDINATES[name.removeprefix("MAP of the ")]
                first = posterior(x[:1])
                row |= {"mode": by_find_map(x[0], coordinate), "mode_on_paper": float((first.a - 0.5 + coordinate.power) / first.b)}  # fmt: skip
            rows.append(row)
        if ML not in found:
            rows.append({"data": count, "learnt": ML, "loss": math.inf, "behind": math.inf})
    return pd.DataFrame(rows)


def of_many(name: str, values: Tensor) -> dict[str, float]:
    """Mean and standard error of independent values."""
    return {name: float(values.mean()), f"{name}_se": float(values.std()) / math.sqrt(len(values))}


def verdict(table: pd.DataFrame) -> str:
    few, many = table.data.min(), table.data.max()
    points = table[~table.learnt.isin([Q, EXACT])]
    at_few, at_many = points[(points.data == few) & ~np.isinf(points.loss)], table[(table.data == many) & (table.learnt != EXACT)]  # fmt: skip
    q = table[(table.learnt == Q) & (table.data == few)].iloc[0]
    best = at_few.loc[at_few.loss.idxmin()]
    on_paper = table[table.mode_on_paper.notna()]
    off = (on_paper["mode"] / on_paper.mode_on_paper - 1).abs()
    modes = table[table.data == few]["mode"]
    endless = sorted(points[np.isinf(points.loss)].data)
    checks = {
        "find_map finds the mode on paper": bool((off < 1e-3).all()),
        "no q(θ) predicts better than the exact posterior": every(not_above(-r.loss, r.loss_se, within=ENOUGH, sure=3) for r in table[table.learnt == Q].itertuples()),
        f"with {many} data all lose less than {ENOUGH} nats": every(above(ENOUGH - r.loss, r.loss_se) for r in at_many.itertuples()),
        f"with {few} the learnt q(θ) predicts better than any point": every(above(r.behind, r.behind_se, sure=3) for r in at_few.itertuples()),
        "and loses less than a quarter as much": above(best.loss / 4 - q.loss, math.hypot(best.loss_se / 4, q.loss_se)),
    }  # fmt: skip
    bounds = {
        "the likelihood has a maximum": not endless,
        "MAP is one in all coordinates": bool(modes.max() / modes.min() < 1.01),
    }
    told = table[(table.learnt != EXACT) & np.isfinite(table.loss)]
    parts = [f"{r.learnt} {measured(r.loss, r.loss_se, '.2g')}" for r in told.itertuples()]
    said = "; ".join(
        f"with {count} {', '.join(part)}" for count, part in pd.Series(parts).groupby(told.data.to_numpy())
    )
    none = f" With {', '.join(map(str, endless))} the likelihood has no maximum." if endless else ""
    return (
        f"{head(checks, bounds)}: to the exact posterior a new datum loses, in nats, {said}.{none} Of the same data the MAP precision is {', '.join(f'{v:.2f}' for v in modes.dropna())}, as it is "
        f"sought in the precision, the log or the standard deviation (find_map ends within {off.max():.0e} of the mode on paper)."
    )


def figure(table: pd.DataFrame) -> plt.Figure:
    drawing, (left, right) = plt.subplots(1, 2, figsize=(11.5, 4.2), layout="constrained")
    maps = dict(zip([f"MAP of the {name}" for name in COORDINATES], ("#009E73", "#56B4E9", "#CC79A7"), strict=True))
    colours = {**COLOURS, **maps}
    for name, own in table[table.learnt != EXACT].groupby("learnt", sort=False):
        own = own[np.isfinite(own.loss)]
        left.errorbar(own.data, own.loss, yerr=own.loss_se.fillna(0), color=colours[name], marker="o", ms=4, label=name)
    left.set(xscale="log", yscale="log", xlabel="number of observations", ylabel="loss against the exact posterior\n(nats per new observation, ± 1 SE)")  # fmt: skip
    left.set_xticks(sorted(set(table.data)), [str(n) for n in sorted(set(table.data))], minor=False)
    left.set_title("Log predictive density of a new observation", loc="left", fontsize=11)
    left.set_ylim(bottom=1e-6)
    left.legend(frameon=False, fontsize=8)
    for count in table[np.isinf(table.loss)].data:
        left.annotate("no maximum", (count, 1), (0, -4), xycoords=("data", "axes fraction"), textcoords="offset points", color=COLOURS[ML], fontsize=8, va="top")  # fmt: skip
    drawn = table[table.density.notna()]
    count = drawn.data[drawn.learnt == ML].min() if ML in set(drawn.learnt) else drawn.data.min()
    grid = np.linspace(-4, 4, 121)
    for row in drawn[drawn.data == count].itertuples():
        right.plot(grid, row.density, color=colours[row.learnt], lw=2.5 if row.learnt == EXACT else 1.3, ls="--" if row.learnt == Q else "-", label=row.learnt)  # fmt: skip
    right.plot(row.seen, np.zeros(len(row.seen)), "k|", ms=14, clip_on=False)
    right.set(xlabel="new observation", ylabel="predictive density", ylim=(0, None))
    right.set_title(f"Predictions from one data set of {count} (ticks)", loc="left", fontsize=11)
    right.legend(frameon=False, fontsize=8)
    for ax in (left, right):
        ax.spines[["top", "right"]].set_visible(False)
    return drawing


experiment = vb.Experiment(
    question="Is a point estimate of θ enough, by maximum likelihood or MAP, or does a posterior over θ predict better?",
    claim="Learning is approximate maximum likelihood or MAP for θ (course, claim 6), which is enough with many data; with few, a q over θ predicts better (Kingma & Welling 2013, "
    "arXiv:1312.6114, appendix F).",
    measure=measure,
    full={"sizes": [1, 2, 4, 8, 16, 64, 256], "repeats": 2000, "steps": 4000},
    quick={"sizes": [1, 8, 200], "repeats": 500, "steps": 1000},
    figure=figure,
    verdict=verdict,
    notes="Normal data with unknown mean and variance, θ from its prior: on average nothing predicts better than the exact posterior predictive, a Student t. `loss`: nats lost against it on a new datum, by quadrature; `behind`: the "
    "same against q(θ), paired by data set; errors over data sets. With fewer than six data the loss of maximum likelihood has infinite variance, so no error is given.",
    summary=lambda table: table.drop(columns=["density", "seen"]),
    sections=("data",),
)
