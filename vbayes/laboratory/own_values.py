"""Compares a gradient with differences of its estimator's own values, for objectives without an exact value."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator
from dataclasses import replace

import torch
from torch import Tensor

from .. import rng
from ..errors import Unsuitable
from ..estimators import name_of
from ..pair.pair import Pair
from ..staging import draw_noise
from .bias import Bias, bias
from .moments import collect
from .replicas import Replicas

BLOCKS = 20  # blocks of draws
DIRECTIONS = 6  # maximum number of directions for differences: one for each number, or random ones
STEP = 0.03  # step forward and back in unconstrained parameters: short compared with the curvature of a bound, long compared with rounding in single precision
OFF = 0.005  # fraction of a typical draw by which third-order terms may distort the differences
MEMORY, BASE, OTHER, AIM = range(4)  # purposes of child seeds


def against_own_values(
    replicas: Replicas, pair: Pair, names: Collection[str], draws: int, seed: int
) -> tuple[Bias, str]:
    """The distance of the mean gradient from that of the mean value, in typical draws.

    Gradient and values use the same draws, so there is almost no noise if an estimator's gradient is the derivative of its value along the path. With more than six numbers, the distance is
    measured along six random directions, and is an average over directions.

    Args:
        replicas: Replicas of the estimator.
        pair: The pair, at the parameters to test at.
        names: The parameters to include.
        draws: Number of draws of the gradient.
        seed: Seed for all draws.

    Returns:
        The bias, and the parameter with most of it in standard errors; "" if there are more than six numbers, as no direction is then of one parameter.

    Raises:
        Unsuitable: The estimator can't be captured.
    """
    if replicas.program is None:
        raise Unsuitable(f"{name_of(replicas.estimator)} can't be captured, so its draws can only be made one by one")
    parameters, size, squares = pair.parameters, -(-draws // BLOCKS), list[float]()
    claimed = torch.cat(
        [torch.full((value.numel(),), name in names, device="cpu") for name, value in parameters.items()]
    )
    like = next(iter(parameters.values()))
    count = int(claimed.sum())
    directions = torch.eye(count, dtype=torch.float64, device="cpu")
    if count > DIRECTIONS:
        made = torch.randn(count, DIRECTIONS, generator=rng.stream(seed, AIM), dtype=torch.float64, device="cpu")
        directions = torch.linalg.qr(made).Q.mT * (count / DIRECTIONS) ** 0.5
    replicas.settle(pair, rng.child(seed, MEMORY), memories=BLOCKS)

    def gaps() -> Iterator[list[Tensor]]:
        for block in range(BLOCKS):
            replicas.recall(block)
            with rng.seeded(rng.child(seed, BASE, block)):
                noise = draw_noise(replicas.sizes, size, like)
            other, whole = rng.child(seed, OTHER, block), like.new_zeros(len(claimed))
            gradients = replicas.with_values(pair, noise, other)[0][:, claimed]
            squares.append(float(gradients.double().square().sum(1).mean()))
            columns = []
            for direction in directions.to(like):
                along = whole.masked_scatter(claimed, direction)
                step = STEP / float(direction.norm())
                ahead, behind = (
                    replicas.with_values(_moved(pair, way * step * along), noise, other)[1] for way in (1.0, -1.0)
                )
                columns.append(gradients @ direction - (ahead - behind) / (2 * step))
            yield [torch.stack(columns, 1)]

    right = torch.zeros(len(directions), dtype=torch.float64, device="cpu")
    found = collect(gaps(), right, size)
    typical = math.sqrt(sum(squares) / BLOCKS)
    scaled = replace(found, sums=found.sums / typical, squares=found.squares / typical**2) if typical else found
    worst = ""
    if count <= DIRECTIONS:
        alone = [abs(bias(scaled.select(one[None]), right[:1], OFF).z) for one in torch.arange(count, device="cpu")]
        owners = [name for name, value in parameters.items() if name in names for _ in range(value.numel())]
        worst = owners[alone.index(max(alone))]
    return bias(scaled, right, OFF), worst


def _moved(pair: Pair, by: Tensor) -> Pair:
    """A copy with its parameters moved by a given step."""
    parameters = pair.parameters
    pieces = by.split([value.numel() for value in parameters.values()])
    return pair.copy().load(
        {
            name: value + piece.reshape(value.shape)
            for (name, value), piece in zip(parameters.items(), pieces, strict=True)
        }
    )
