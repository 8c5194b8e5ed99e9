"""Compares the mean of an estimator's values with the exact value of what it says they estimate."""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
from torch import Tensor

from .. import rng
from ..data.dataset import Batch
from ..errors import BadInput, Unsuitable
from ..estimators.base import Estimator
from ..estimators.objective import ELBO, Objective, of_particles
from ..inference.tabulate import tabulate
from ..pair.pair import Pair
from ..staging import draw_noise
from ..validation import no_warnings_of_nan, validation
from .bench import BLOCKS
from .bias import SEEN, bias
from .estimator_check import VALUE, OnPair
from .moments import collect
from .replicas import Replicas

ROUNDING = 1e-4  # relative error of tables and sums in single precision
FEW = 4  # draws in a block if they are only checked for being finite
MEMORY, BASE, OTHER = 11, 12, 13  # purposes of child seeds


def of_value(method: Estimator) -> Objective:
    """What an estimator's value estimates: the ELBO, its objective, or the mean of its `bound_of`; an objective without a truth if none of these is named like its `bound`."""
    if method.bound == ELBO.name:
        return ELBO
    if method.bound == method.objective.name:
        return method.objective
    if type(method).bound_of is Estimator.bound_of:
        return Objective(method.bound)
    return of_particles(method.bound, method.bound_of, method.num_particles, method.noise)


def mean_value(name: str, pair: Pair, batch: Batch, method: Estimator, many: Replicas, draws: int, seed: int) -> OnPair:
    """Tests the value of an estimator on a pair: it must be finite, and on average equal to the exact value, if that is known.

    Args:
        name: Name of the pair.
        pair: The pair.
        batch: All data.
        method: The estimator.
        many: Replicas of the estimator.
        draws: Number of draws of the value.
        seed: Seed for all draws.
    """
    captured, goal = many.why_slow or "yes", of_value(method)
    size = -(-draws // BLOCKS) if goal.truth else FEW
    values = torch.stack(list(_blocks(pair, batch, many, size, seed))) * method.objective.sign
    if (odd := values[~values.isfinite()]).numel():
        return OnPair(name, VALUE, captured, "yes", math.inf, 0.0, f"{float(odd[0])}")
    if goal.truth is None:
        return OnPair(name, VALUE, captured, f"no exact value of its bound, {goal.name}, is known")
    try:
        with pair.scope(), torch.no_grad():
            right = goal.truth(tabulate(pair, batch)).sum().double().cpu()
    except (Unsuitable, BadInput) as error:
        return OnPair(name, VALUE, captured, str(error).split(". ")[0])
    drawn = collect(([block[:, None]] for block in values), right[None], values.shape[1])
    found = bias(drawn, right[None], ROUNDING * max(1.0, abs(float(right))))
    typical = float(values.square().mean().sqrt())
    off = f"on average {float(values.mean()):.4g} instead of {float(right):.4g}, the exact {goal.name}"
    worst = off if abs(found.z) > SEEN else ""
    return OnPair(name, VALUE, captured, "yes", found.z, found.resolution / typical if typical else 0.0, worst)


def _blocks(pair: Pair, batch: Batch, many: Replicas, size: int, seed: int) -> Iterator[Tensor]:
    """Blocks of values in double precision, on the CPU; one by one if nothing captures the estimator."""
    many.settle(pair, rng.child(seed, MEMORY), memories=BLOCKS)
    model, guide = pair.scaled(batch.total)
    for block in range(BLOCKS):
        other = rng.child(seed, OTHER, block)
        if many.program is None:
            with pair.scope(), rng.seeded(other), validation(False), no_warnings_of_nan():
                alone = [-many.estimator.loss(model, guide, *batch.args) for _ in range(size)]
            yield torch.tensor(alone, dtype=torch.float64, device="cpu")
            continue
        many.recall(block)
        with rng.seeded(rng.child(seed, BASE, block)):
            noise = draw_noise(many.sizes, size, next(iter(pair.parameters.values())))
        yield many.with_values(pair, noise, other)[1].double().cpu()
