"""The score of a flow at its own draw, without its inverse."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.distributions import TransformedDistribution
from torch.distributions.transforms import ComposeTransform, Transform


def is_flow(site: Any) -> bool:
    """Whether a site is a flow of one real vector."""
    fn: Any = site["fn"]
    return (
        isinstance(fn, TransformedDistribution) and len(fn.event_shape) == 1 and not fn.batch_shape and not site["mask"]
    )


def flow_score(fn: Any, value: Tensor, *, live: bool) -> Tensor:
    """(D,) ∇_z log q(z) at the last draw of a flow.

    From layer to layer, with y = t(x) and J = ∂y/∂x:  ∇_y log q = J⁻ᵀ (∇_x log q − ∇_x log |J|).  An autoregressive layer has a triangular J, all of whose rows come
    from one evaluation of the network on D copies of x, whereas its inverse takes D sequential evaluations.

    Args:
        fn: A flow of one vector.
        value: Its last draw; the layers cache the input that it was computed from.
        live: Whether the result should be differentiable.

    References:
        Vaitl, Winkler, Richter & Kessel 2024, Fast and unified path gradient estimators for normalizing flows, arXiv:2403.15881.
    """
    layers = _layers(fn.transforms)
    x = value
    for layer in reversed(layers):
        x = layer.inv(x)
    x = x if x.requires_grad else x.detach().requires_grad_()
    (score,) = torch.autograd.grad(fn.base_dist.log_prob(x).sum(), x, create_graph=live)
    for layer in layers:
        x, score = _through(layer, x, score, live)
    return score


def _layers(transforms: Any) -> list[Transform]:
    return [
        layer
        for transform in transforms
        for layer in (_layers(transform.parts) if isinstance(transform, ComposeTransform) else [transform])
    ]


def _through(layer: Any, x: Tensor, score: Tensor, live: bool) -> tuple[Tensor, Tensor]:
    """A layer's output for a vector, and the score there."""
    in_order = getattr(layer, "autoregressive", False)
    copies = x.expand(len(x), len(x)) if in_order else x[None]
    y = layer(copies)
    volume = layer.log_abs_det_jacobian(copies, y)[0].sum()
    if volume.requires_grad:
        (slope,) = torch.autograd.grad(volume, x, create_graph=live, retain_graph=True, materialize_grads=True)
        score = score - slope
    if in_order:
        return y[0], _solved(_jacobian(y, copies, live), score, layer)
    try:
        there = y[0] if live else y[0].detach().requires_grad_()
        back = layer._inverse(there)
    except (KeyError, NotImplementedError):  # a layer without an inverse
        copies = x.expand(len(x), len(x))
        return y[0], torch.linalg.solve(_jacobian(layer(copies), copies, live).mT, score)
    (score,) = torch.autograd.grad(back, there, score, create_graph=live)
    return y[0], score


def _jacobian(y: Tensor, copies: Tensor, live: bool) -> Tensor:
    """(D, D) ∂y_i/∂x_j, row i from copy i."""
    unit = torch.eye(len(y), dtype=y.dtype, device=y.device)
    return torch.autograd.grad(y, copies, unit, create_graph=live, retain_graph=True)[0]


def _solved(jacobian: Tensor, score: Tensor, layer: Any) -> Tensor:
    """J⁻ᵀ s of an autoregressive layer, whose order is the permutation of its network."""
    order = layer.arn.permutation if hasattr(layer, "arn") else torch.arange(len(score), device=score.device)
    ordered = jacobian.index_select(0, order).index_select(1, order)
    found = torch.linalg.solve_triangular(ordered.mT, score.index_select(0, order)[:, None], upper=True)[:, 0]
    return torch.zeros_like(score).index_copy(0, order, found)
