"""Draws of gammas and Dirichlets, made from a fixed number of normals and uniforms.

torch draws them by rejection, with a varying number of random numbers that can't be supplied as base noise. Made from noise, draws are the same for the same noise, and can be part of any
program. Their gradient in the shapes is still torch's implicit gradient, which depends only on shape and draw.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from .base_noise import Base

PROPOSALS = 5
"""Number of proposals; the first accepted one is the draw. Each has a probability of at least .951: at most one draw in three million accepts none, and becomes the distribution's centre."""


def standard_gamma(shape: Tensor, base: Base) -> Tensor:
    """Draws from Gamma(shape, 1) for each shape, like `torch._standard_gamma`.

    References:
        Marsaglia & Tsang 2000, A simple method for generating gamma variables, doi:10.1145/358407.358414.
    """
    with torch.no_grad():
        d, factor = _accepted(shape, base)
        drawn = d * factor.exp()
    return _Moved.apply(shape, drawn) if shape.requires_grad else drawn  # type: ignore[no-any-return]


def dirichlet(shapes: Tensor, base: Base) -> Tensor:
    """Draws from Dirichlet(shapes) for each row, like `torch._sample_dirichlet`: inside (0, 1), and without a gradient, which torch's distribution adds."""
    numbers = torch.finfo(shapes.dtype)
    with torch.no_grad():  # by logarithms, as with small shapes all gammas of a row may underflow to zero
        d, factor = _accepted(shapes, base)
        return (d.log() + factor).softmax(-1).clamp(numbers.tiny, 1 - numbers.eps / 2)


FROM_NOISE = {torch._standard_gamma: standard_gamma, torch._sample_dirichlet: dirichlet}
"""torch's function → the same from base noise."""


def _accepted(shape: Tensor, base: Base) -> tuple[Tensor, Tensor]:
    """A gamma's centre, and the logarithm of the factor by which it is multiplied."""
    proposals = shape.new_empty((PROPOSALS, *shape.shape))
    normal, uniform, one_more = base("normal", proposals), base("uniform", proposals), base("uniform", shape)
    small = shape < 1
    d = torch.where(small, shape + 1, shape) - 1 / 3
    x, c = normal, 1 / (9 * d).sqrt()
    log_root = torch.log1p(
        c * x
    )  # log of the paper's v = (1 + c x)³; NaN if that is negative, for which every comparison is false
    accepted = torch.log1p(-uniform) < x**2 / 6 - c * x**3 / 9 + 3 * d * (log_root - c * x)
    found = torch.zeros_like(d)
    for number in reversed(range(PROPOSALS)):
        found = torch.where(accepted[number], log_root[number], found)
    scale = torch.where(
        small, torch.log1p(-one_more) / shape, 0.0
    )  # converts a draw for shape + 1 to one for a small shape
    return d, 3 * found + scale


class _Moved(torch.autograd.Function):
    """A draw as a differentiable function of its shape."""

    @staticmethod
    def forward(ctx: Any, shape: Tensor, drawn: Tensor) -> Tensor:
        ctx.save_for_backward(shape, drawn)
        return drawn.clone()

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:  # type: ignore[override]
        shape, drawn = ctx.saved_tensors
        return gradient * torch._standard_gamma_grad(shape, drawn), None
