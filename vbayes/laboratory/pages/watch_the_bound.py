"""Numbers for the page "Watch the bound": the exact values are computed here."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from typing import Any

import torch

from ...data.dataset import Batch
from ...inference.tabulate import tabulate
from ...summaries.joint import joint_limit
from ..compare import compare
from .targets import Target, targets

ESTIMATORS = ("score", "rloo", "pathwise", "stl", "analytic_kl")
STARTS: dict[str, tuple[tuple[float, float], tuple[float, float]]] = {
    "correlated": ((-0.6, -0.4), (-0.7, -0.7)),
    "arms": ((0.5, 0.8), (-0.8, -0.8)),
    "banana": ((0.8, -0.2), (-0.9, -0.9)),
    "modes": ((0.4, -0.6), (-0.5, -0.3)),
    "funnel": ((0.5, 1.6), (-0.6, -0.7)),
}
"""Where q stands when a target is opened: (mean, log sd)."""
COMPONENTS = 5  # of a gradient: means, log sds, slope
SHOWN = 0.9  # the correlation with which the page opens, and at which variances are measured


def figures(*, replicas: int = 20_000, seed: int = 0) -> dict[str, Any]:
    """The precomputed numbers of the page, for JSON.

    Args:
        replicas: Number of gradients of each estimator.
        seed: Seed for their draws.

    Returns:
        `targets`: of each its settings, log p(x), the posterior's means and sds, where q starts, and `points`: a few q with their exact ELBO, KL and
        gradient (mean, log sds, and the slope where there is one) from `vb.tabulate`, in nats.
        `variances`: of each target, at its start, by `vb.compare`: estimator, trace of the gradient's covariance, its standard error, and how much of it
            one block of the draws carries (much of it where tails are heavy, and the standard error is too small).
        `chance`: the standard errors up to which the worst component of a mean gradient counts as right: of an unbiased estimator it is further off in 5 % of cases, and the page can't tell.
    """
    found = targets()
    measured = [target for target in found if target.settings.get("correlation", SHOWN) == SHOWN]
    return {
        "targets": [described(target) for target in found],
        "variances": [row for target in measured for row in _measured(target, replicas, seed)],
        "chance": joint_limit(COMPONENTS),
    }


def described(target: Target) -> dict[str, Any]:
    """Everything about a target except the variances."""
    points = [_point(target, *place) for place in _places(target)]
    about = {key: [point.pop(key) for point in points][0] for key in ("evidence", "means", "sds")}
    loc, log_scale = STARTS[target.name]
    return {
        "name": target.name, "prior": target.prior, "closed": target.closed, "settings": target.settings,
        "start": {"loc": loc, "log_scale": log_scale}, "points": points, **about,
    }  # fmt: skip


def _places(target: Target) -> Iterator[tuple[list[float], list[float], float | None]]:
    """(mean, log sds, slope) of a few q: the initial one, and shifted, stretched and rotated ones."""
    (a, b), (s, t) = STARTS[target.name]
    yield [a, b], [s, t], None
    yield [-0.5 * a, 0.7 * b], [s - 0.4, t + 0.2], None
    yield [a, b], [s, t], 0.3
    yield [0.8 * a, 1.2 * b], [s + 0.2, t - 0.5], -0.25


def _point(target: Target, loc: list[float], log_scale: list[float], slope: float | None) -> dict[str, Any]:
    batch = Batch((_nothing(),))
    pair = target.pair(loc, log_scale, slope).initialise(batch)
    with pair.scope():
        table = tabulate(pair, batch)
        elbo = table.elbo()
        gradient = torch.autograd.grad(elbo, list(pair.leaves.values()))
    posterior, z = table.posterior().detach()[:, None], table.values["z"]
    means = (posterior * z).sum(0)
    return {
        "loc": loc, "log_scale": log_scale, "slope": slope, "elbo": float(elbo.detach()), "kl": float(table.kl().detach()),
        "gradient": torch.cat([g.flatten() for g in gradient]).tolist(), "evidence": float(table.log_evidence().detach()),
        "means": means.tolist(), "sds": ((posterior * z**2).sum(0) - means**2).sqrt().tolist(),
    }  # fmt: skip


def _measured(target: Target, replicas: int, seed: int) -> list[dict[str, Any]]:
    loc, log_scale = STARTS[target.name]
    pair = target.pair(list(loc), list(log_scale), None).initialise(Batch((_nothing(),)))
    names = [name for name in ESTIMATORS if target.closed or name != "analytic_kl"]
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Heavy tails", UserWarning)  # the rows report it
        result = compare(pair, _nothing(), names, at={"start": pair}, replicas=replicas, seed=seed, progress=False)
    table = result.to_dataframe().query("group == 'all'")
    rows = table[["estimator", "variance", "variance_se", "heaviest_block"]].to_dict("records")
    return [{"target": target.name, **row} for row in rows]


def _nothing() -> torch.Tensor:
    """The data: none, because the likelihood includes them."""
    return torch.zeros(1, dtype=torch.float64, device="cpu")
