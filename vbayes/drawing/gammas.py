"""Draws of gammas and Dirichlets, made of a fixed number of normals and uniforms.

torch draws them by rejection, with as many random numbers as it takes, out of sight of whoever hands in noise. Made of noise they are the same for the same noise, and a part of any
program. How they move with their shapes stays torch's implicit gradient, which asks for shape and draw alone.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from .base_noise import Base

PROPOSALS = 5
"""The first that is accepted is the draw. Each is with a probability of .951 or more: one draw in three million, at most, finds none and takes the middle of its distribution."""


def standard_gamma(shape: Tensor, base: Base) -> Tensor:
    """A draw of Gamma(shape, 1) for each of some shapes, as `torch._standard_gamma` makes it.

    References:
        Marsaglia & Tsang 2000, A simple method for generating gamma variables, doi:10.1145/358407.358414.
    """
    with torch.no_grad():
        d, factor = _accepted(shape, base)
        drawn = d * factor.exp()
    return _Moved.apply(shape, drawn) if shape.requires_grad else drawn  # type: ignore[no-any-return]


def dirichlet(shapes: Tensor, base: Base) -> Tensor:
    """A draw of Dirichlet(shapes) for each row, as `torch._sample_dirichlet` makes it: inside (0, 1), and without a gradient, which torch's distribution adds."""
    numbers = torch.finfo(shapes.dtype)
    with torch.no_grad():  # by logarithms: with small shapes all gammas of a row may be zero
        d, factor = _accepted(shapes, base)
        return (d.log() + factor).softmax(-1).clamp(numbers.tiny, 1 - numbers.eps / 2)


FROM_NOISE = {torch._standard_gamma: standard_gamma, torch._sample_dirichlet: dirichlet}
"""torch's own function → the same from base noise."""


def _accepted(shape: Tensor, base: Base) -> tuple[Tensor, Tensor]:
    """A gamma's middle, and the logarithm of what it is to be multiplied by."""
    proposals = shape.new_empty((PROPOSALS, *shape.shape))
    normal, uniform, one_more = base("normal", proposals), base("uniform", proposals), base("uniform", shape)
    small = shape < 1
    d = torch.where(small, shape + 1, shape) - 1 / 3
    x, c = normal, 1 / (9 * d).sqrt()
    log_root = torch.log1p(
        c * x
    )  # of the paper's v = (1 + c x)³; not a number where that is negative, which no comparison accepts
    accepted = torch.log1p(-uniform) < x**2 / 6 - c * x**3 / 9 + 3 * d * (log_root - c * x)
    found = torch.zeros_like(d)
    for number in reversed(range(PROPOSALS)):
        found = torch.where(accepted[number], log_root[number], found)
    scale = torch.where(small, torch.log1p(-one_more) / shape, 0.0)  # leads back to a small shape from the next larger
    return d, 3 * found + scale


class _Moved(torch.autograd.Function):
    """A draw as a function of its shape."""

    @staticmethod
    def forward(ctx: Any, shape: Tensor, drawn: Tensor) -> Tensor:
        ctx.save_for_backward(shape, drawn)
        return drawn.clone()

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:  # type: ignore[override]
        shape, drawn = ctx.saved_tensors
        return gradient * torch._standard_gamma_grad(shape, drawn), None
