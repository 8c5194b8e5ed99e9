"""Gradients in the metric of the guide, which measures the effect of their noise on a natural gradient step."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from ..arguments.kind import refuse
from ..data.dataset import Batch
from ..pair.pair import Pair
from ..updates import NaturalGradient
from ..updates.normal_parameters import NormalParameters
from ..updates.normals_of import normals_of
from ..validation import vmap


def in_metric(normals: Sequence[NormalParameters], pair: Pair) -> Callable[[Tensor], Tensor]:
    """(r, P) gradients in the order of a pair's parameters → F^-½ times each, in the same order.

    The squared norm is then that of the step F⁻¹ g in the metric: twice the distance in nats by which it moves q at rate 1, so that bias and variance refer to steps. Parameters that don't belong
    to a normal are unchanged.

    Args:
        normals: Normals of the guide; if there are none, gradients are unchanged.
        pair: The pair, at the parameters to use.
    """
    if not normals:
        return lambda gradients: gradients
    values = {name: value.detach().double() for name, value in pair.parameters.items()}

    def one(gradient: Tensor) -> Tensor:
        pieces = gradient.split([value.numel() for value in values.values()])
        parts = {name: piece.reshape(v.shape) for (name, v), piece in zip(values.items(), pieces, strict=True)}
        for normal in normals:
            own = normal.whitened([values[n] for n in normal.names], [parts[n] for n in normal.names])
            parts |= dict(zip(normal.names, own, strict=True))
        return torch.cat([part.reshape(-1) for part in parts.values()])

    many = vmap(one)
    return lambda gradients: many(gradients.to(next(iter(values.values()))))


def metric_of(update: Any, pair: Pair, batch: Batch) -> tuple[NormalParameters, ...]:
    """The normals in whose metric steps are measured; none if there is no update.

    Raises:
        BadInput: An update without a gradient.
        Unsuitable: The guide has no normal with a known metric.
    """
    if update is None:
        return ()
    if not isinstance(update, NaturalGradient):
        refuse(
            "update",
            update,
            wanted="vb.NaturalGradient(), whose steps are made of gradients",
            mend="update=vb.NaturalGradient()",
        )
    with pair.scope():
        return normals_of(pair, batch)
