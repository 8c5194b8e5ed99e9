"""Can z = g(ε), with ε standard normal or uniform, match a posterior that no Gaussian can?"""

from __future__ import annotations

import math
from collections.abc import Callable

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pyro
import pyro.distributions as dist
import torch
from answers import above, every, head, not_above
from numpy.polynomial.hermite_e import hermegauss
from pyro.distributions import constraints
from pyro.distributions import transforms as T
from scipy.optimize import minimize
from torch import Tensor

import vbayes as vb

NOISE, SEEN = 0.3, 1.0  # x = a b + noise, x = 1: a and b are both positive or both negative
BENT = -1.0  # x = b − a² + noise
HEADS, TOSSES = 7.0, 8.0
LAYERS = 6
CLOSE = 0.02  # nats from the posterior
STARTS = ((0.5, 0.7), (-0.5, -0.7), (0.0, 0.0))
NOISELESS: dict[str, tuple[Callable, float]] = {"two arms": (lambda a, b: a * b, SEEN), "banana": (lambda a, b: b - a**2, BENT)}  # the mean of x, and its observed value  # fmt: skip


def two_arms(x: Tensor) -> None:
    z = pyro.sample("z", dist.Normal(torch.zeros(2), 1.0).to_event(1))
    pyro.sample("x", dist.Normal(z[0] * z[1], NOISE), obs=x[0])


def banana(x: Tensor) -> None:
    z = pyro.sample("z", dist.Normal(torch.zeros(2), 1.0).to_event(1))
    pyro.sample("x", dist.Normal(z[1] - z[0] ** 2, NOISE), obs=x[0])


def coin(x: Tensor) -> None:
    z = pyro.sample("z", dist.Beta(1.0, 1.0))
    pyro.sample("x", dist.Binomial(TOSSES, z), obs=x[0])


def straight(x: Tensor) -> None:
    """z = μ + L ε: every Gaussian."""
    location = pyro.param("location", lambda: torch.tensor([0.5, 0.7]))
    lower = pyro.param("lower", lambda: 0.5 * torch.eye(2), constraint=constraints.lower_cholesky)
    pyro.sample("z", dist.MultivariateNormal(location, scale_tril=lower))


def flow() -> Callable[[Tensor], None]:
    """z = g(ε), where g is a composition of coupling layers with networks of 16 units."""
    with vb.seeded(None):
        layers = [T.affine_coupling(2, hidden_dims=[16, 16]) for _ in range(LAYERS)]

    def guide(x: Tensor) -> None:
        swap = T.Permute(torch.tensor([1, 0]))
        for number, layer in enumerate(layers):
            pyro.module(f"layer{number}", layer)
        chain = [part for layer in layers for part in (layer, swap)]
        pyro.sample("z", dist.TransformedDistribution(dist.Normal(torch.zeros(2), 1.0).to_event(1), chain))

    return guide


def squeezed(x: Tensor) -> None:
    """z = sigmoid(μ + σ ε)."""
    location, scale = pyro.param("location", lambda: torch.tensor(0.0)), positive("scale")
    pyro.sample("z", dist.TransformedDistribution(dist.Normal(location, scale), [T.SigmoidTransform()]))


def kumaraswamy(x: Tensor) -> None:
    """z = (1 − (1 − u)^(1/b))^(1/a), u uniform (Kumaraswamy 1980, doi:10.1016/0022-1694(80)90036-0)."""
    pyro.sample("z", dist.Kumaraswamy(positive("a"), positive("b")))


def positive(name: str) -> Tensor:
    return pyro.param(name, lambda: torch.tensor(1.0), constraint=constraints.positive)


CASES: tuple[tuple[str, str, Callable, Callable[[], Callable], float], ...] = (
    ("banana", "Gaussian", banana, lambda: straight, BENT),
    ("banana", "flow", banana, flow, BENT),
    ("two arms", "Gaussian", two_arms, lambda: straight, SEEN),
    ("two arms", "flow", two_arms, flow, SEEN),
    ("a coin", "sigmoid of a Gaussian", coin, lambda: squeezed, HEADS),
    ("a coin", "Kumaraswamy", coin, lambda: kumaraswamy, HEADS),
)


def best_gaussian(posterior: str, evidence: float) -> float:
    """KL(q ‖ posterior) of the best Gaussian: log p is a polynomial of degree 4 in z, whose expectation is exact with five Gauss-Hermite nodes per axis."""
    nodes, weights = hermegauss(5)
    noise = np.stack([part.ravel() for part in np.meshgrid(nodes, nodes)])
    weights = np.outer(weights, weights).ravel() / (2 * math.pi)
    mean, seen = NOISELESS[posterior]

    def kl(numbers: np.ndarray) -> float:
        """The KL for a mean and a lower triangular factor with log diagonal."""
        first, second, log_first, slope, log_second = numbers
        a, b = first + math.exp(log_first) * noise[0], second + slope * noise[0] + math.exp(log_second) * noise[1]
        squares = a**2 + b**2 + ((seen - mean(a, b)) / NOISE) ** 2
        log_p = -0.5 * weights @ squares - math.log(NOISE) - 1.5 * math.log(2 * math.pi)
        return float(evidence - log_p - log_first - log_second - 1 - math.log(2 * math.pi))

    return min(float(minimize(kl, [*start, -1.0, 0.0, -1.0]).fun) for start in STARTS)


def measure(*, steps: int, draws: int) -> pd.DataFrame:
    """KL(q ‖ posterior) of each guide after training with pathwise gradients, as exact evidence minus ELBO; and some of its draws."""
    rows, evidence = [], {}
    for posterior, guide, model, make, seen in CASES:
        pair = vb.Pair(model, make(), name=guide)
        x = torch.tensor([seen])
        fit = vb.fit(pair, x, vb.STL(16), steps=steps, learning_rate=0.01, progress=False)
        if posterior not in evidence:  # it doesn't depend on the guide; a flow would be too curved for tabulation
            evidence[posterior] = vb.log_evidence(fit, method="exact").value
        elbo = vb.log_evidence(fit, method="elbo", num_particles=4 * draws, progress=False)
        drawn = vb.posterior(fit, draws=draws, method="guide").draws["z"].reshape(draws, -1)
        rows.append(
            {"posterior": posterior, "guide": guide, "kl": evidence[posterior] - elbo.value, "kl_se": elbo.se,
             "kl_best": best_gaussian(posterior, evidence[posterior]) if guide == "Gaussian" else None, "other_arm": float((drawn[:, 0] < 0).double().mean()),
             "first": drawn[:, 0].tolist(), "second": drawn[:, -1].tolist()}
        )  # fmt: skip
    return pd.DataFrame(rows)


def verdict(table: pd.DataFrame) -> str:
    rows = table.set_index(["posterior", "guide"])

    def said(*which: str) -> str:
        return f"{rows.kl[which]:.3f} ± {rows.kl_se[which]:.3f}"

    flow, normal, coin = ("banana", "flow"), ("banana", "Gaussian"), ("a coin", "Kumaraswamy")
    second = rows.other_arm["two arms", "flow"]
    checks = {
        "a flow leaves less than half of the best Gaussian's KL": above(rows.kl_best[normal] / 2 - rows.kl[flow], rows.kl_se[flow], sure=4),
        "a path from a uniform does as well": above(CLOSE - rows.kl[coin], rows.kl_se[coin], sure=4),
        "no KL is below 0": every(not_above(-r.kl, r.kl_se, within=CLOSE, sure=4) for r in rows.itertuples()),
    }  # fmt: skip
    first = head(checks, {"another maximum is found": 0.1 < second < 0.9})
    left = f"{said('two arms', 'flow')} nats (Gaussian: {said('two arms', 'Gaussian')}; one whole arm would leave ln 2)"
    arms = (
        f"Of a posterior with two arms the flow finds both, {second:.0%} of its draws in the second, and leaves {left}."
        if 0.1 < second < 0.9
        else f"But of a posterior with two arms it has {second:.0%} of its draws in the second, and leaves {left}: KL(q ‖ p) does not make g look for another maximum."
    )
    return (
        f"{first}: of a bent posterior the best Gaussian leaves {rows.kl_best[normal]:.3f} nats (trained {said('banana', 'Gaussian')}), a flow {said('banana', 'flow')}; from a uniform, Kumaraswamy's g comes within "
        f"{said('a coin', 'Kumaraswamy')} of the Beta posterior of a coin, a sigmoid of a normal within {said('a coin', 'sigmoid of a Gaussian')}. {arms}"
    )


def figure(table: pd.DataFrame) -> plt.Figure:
    drawing, axes = plt.subplots(1, 6, figsize=(20, 3.6), layout="constrained")
    a, b = np.meshgrid(np.linspace(-3, 3, 241), np.linspace(-3, 3, 241))
    away = {name: seen - mean(a, b) for name, (mean, seen) in NOISELESS.items()}
    place = np.linspace(0.001, 0.999, 400)
    beta = np.exp(dist.Beta(HEADS + 1, TOSSES - HEADS + 1).log_prob(torch.tensor(place)).numpy())
    for ax, row in zip(axes, table.itertuples(), strict=True):
        if row.posterior in away:
            log_p = -0.5 * (a**2 + b**2) - 0.5 * (away[row.posterior] / NOISE) ** 2
            ax.contourf(a, b, np.exp(log_p - log_p.max()), levels=8, cmap="Greys")
            ax.plot(_numbers(row.first), _numbers(row.second), ".", ms=3, alpha=0.5, color="#0072B2")
            ax.set_xlim(-3, 3)
            ax.set_ylim(-3, 3)
            ax.set(aspect="equal", xlabel="a", ylabel="b")
        else:
            ax.set(xlabel="probability of heads", ylabel="density")
            ax.plot(place, beta, color="black", label="posterior")
            ax.hist(
                _numbers(row.first), bins=40, range=(0, 1), density=True, color="#0072B2", alpha=0.6, label="draws of q"
            )
            ax.legend(frameon=False, fontsize=9)
        ax.set_title(f"{row.posterior}; q: {row.guide}\nKL(q ‖ posterior) {row.kl:.3g} nats", loc="left", fontsize=10)
        ax.spines[["top", "right"]].set_visible(False)
    return drawing


def _numbers(column: list[float] | str) -> np.ndarray:
    """A list of numbers, or its text in a saved table."""
    return np.array(column if isinstance(column, list) else [float(part) for part in column.strip("[]").split(",")])


experiment = vb.Experiment(
    question="Can z = g(ε), with ε standard normal or uniform, match a posterior that no Gaussian can?",
    claim="z = g(ε, x) with g a flexible approximator and ε from a fixed simple density (course, claim 11).",
    measure=measure,
    full={"steps": 20_000, "draws": 2000},
    quick={"steps": 1200, "draws": 300},
    figure=figure,
    verdict=verdict,
    notes="`kl`: KL(q ‖ posterior) in nats, with the error of its ELBO; `kl_best`: that of the best Gaussian, in closed form. `other_arm`: the fraction of q's draws with a < 0.",
    summary=lambda table: table.drop(columns=["first", "second"]),
    sections=("posterior",),
)
