"""How the number of particles affects the signal-to-noise ratio of gradients, measured at the end of a fit."""

from __future__ import annotations

from dataclasses import replace

import pandas as pd

from ..errors import BadInput, NonFinite, Unsuitable
from ..estimators import ESTIMATORS, name_of
from ..estimators.base import Estimator
from ..pair.parameter_groups import parameter_groups
from ..pair.problem import Problem
from ..training.result import Fit
from .bench import BLOCKS, Bench

ROWS = (
    20  # rows of a minibatch: the ratio of two signals hardly depends on it, and K times as many draws are still fast
)
SIZE = 2  # replicas in a block: 100 in total, which determine a ratio to about 5 %
CLEAR = 4.0  # standard errors from which two ratios count as different
REPARAMETERISED = {"iwae": "dreg"}
"""Estimator → an estimator of the same bound whose guide gradient improves with particles."""


def particles_signal(fit: Fit, *, seed: int) -> str:
    """Describes the signal-to-noise ratios of guide and model with the fit's number of particles and with the smallest possible one; empty if particles are simply averaged,
    so that their number matters only as a number of draws.

    The ratio is the norm of the mean gradient over the root of its variance, ‖E g‖ / √(tr Cov g), of one minibatch at the parameters of the fit.

    Args:
        fit: Trained by an estimator of several particles.
        seed: Seed for minibatch and draws.

    References:
        Rainforth et al. 2018, Tighter variational bounds are not necessarily better, arXiv:1802.04537.
    """
    method = fit.estimator
    few = _few(method) if isinstance(method, Estimator) and method.weighs else None
    if few is None or not isinstance(method, Estimator):
        return ""
    rows = min(ROWS, fit.batch_size or len(fit.data))
    problem = Problem.of(fit, fit.data, batch_size=fit.batch_size and rows)
    batch = problem.draw(seed)
    groups = parameter_groups(problem.pair, batch)
    of = {
        "guide": tuple(name for group, names in groups.items() if group.startswith("guide") for name in names),
        "model": groups.get("model", ()),
    }
    bench = Bench(
        problem.pair,
        batch,
        {"few": few, "many": method},
        {},
        {name: own for name, own in of.items() if own},
        SIZE,
        seed,
        strict=False,
    )
    try:
        table = pd.DataFrame([row for piece in bench.measure("end", problem.pair, seed, fit) for row in piece])
    except (NonFinite, Unsuitable):
        return ""
    return _words(table, few, method)


def _few(method: Estimator) -> Estimator | None:
    """The same estimator with the smallest number of particles that it allows, if that is below its own."""
    for count in range(max(1, method.min_particles), method.num_particles):
        try:
            return replace(method, num_particles=count)
        except BadInput:  # a number that its groups don't divide
            continue
    return None


def _words(table: pd.DataFrame, few: Estimator, method: Estimator) -> str:
    known = {(row.group, row.estimator): row for row in table.itertuples()}
    if not {("guide", "few"), ("guide", "many")} <= set(known):
        return ""
    before, after = known["guide", "few"], known["guide", "many"]
    text = f"With {method.num_particles} particles the guide's gradient has a signal-to-noise ratio of {_ratio(after)}, with {few.num_particles} of {_ratio(before)}"
    if ("model", "many") in known and ("model", "few") in known:
        text += f"; the model's has {_ratio(known['model', 'many'])} and {_ratio(known['model', 'few'])}"
    text += f" (one minibatch at the end of this fit, {SIZE * BLOCKS} gradients each)."
    if before.snr - after.snr > CLEAR * (before.snr_se**2 + after.snr_se**2) ** 0.5:
        text += (
            " More particles tighten the bound, but reduce the guide's signal-to-noise ratio (Rainforth et al. 2018)."
        )
        kin = REPARAMETERISED.get(name_of(type(method)()))
        text += (
            f" Use {name_of(ESTIMATORS[kin](method.num_particles))}: the same bound, without this effect."
            if kin
            else ""
        )
    elif after.snr - before.snr > CLEAR * (before.snr_se**2 + after.snr_se**2) ** 0.5:
        text += " Here the guide gains from more particles."
    return text


def _ratio(row: object) -> str:
    return f"{row.snr:.2g} ± {row.snr_se:.1g}"  # type: ignore[attr-defined]
