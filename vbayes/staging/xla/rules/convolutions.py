"""Convolutions, and what their gradients ask for."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from torch import Tensor

from .linear_algebra import precision
from .registry import rule


def _convolved(x: Any, weight: Any, stride: Any, padding: Any, dilation: Any, transposed: bool, output_padding: Any, groups: int) -> Any:  # fmt: skip
    space = x.ndim - 2
    stride, padding, dilation = (list(o) * (space if len(o) == 1 else 1) for o in (stride, padding, dilation))
    options: dict[str, Any] = {"feature_group_count": groups, "precision": precision()}
    if not transposed:
        pads = [(p, p) for p in padding]
        return lax.conv_general_dilated(x, weight, stride, pads, rhs_dilation=dilation, **options)
    # The gradient of a convolution: strides become holes in the input, and the kernel is turned round.
    extra = list(output_padding) * (space if len(output_padding) == 1 else 1)
    whole = [d * (k - 1) for d, k in zip(dilation, weight.shape[2:], strict=True)]
    pads = [(w - p, w - p + e) for w, p, e in zip(whole, padding, extra, strict=True)]
    inside, outside = weight.shape[0] // groups, weight.shape[1]
    kernel = jnp.flip(weight, tuple(range(2, weight.ndim))).reshape(groups, inside, outside, *weight.shape[2:])
    kernel = jnp.swapaxes(kernel, 1, 2).reshape(groups * outside, inside, *weight.shape[2:])
    return lax.conv_general_dilated(x, kernel, [1] * space, pads, lhs_dilation=stride, rhs_dilation=dilation, **options)


@rule("convolution")
def _convolution(out: Tensor, x: Any, weight: Any, bias: Any, *options: Any) -> Any:
    made = _convolved(x, weight, *options)
    return made if bias is None else made + bias.reshape(-1, *[1] * (x.ndim - 2))


@rule("convolution_backward")
def _backward(out: Any, gradient: Any, x: Any, weight: Any, sizes: Any, *rest: Any) -> Any:
    *options, mask = rest
    _, pull = jax.vjp(lambda a, b: _convolved(a, b, *options), x, weight)
    to_x, to_weight = pull(gradient)
    to_bias = gradient.sum((0, *range(2, gradient.ndim)))
    return [part if wanted else None for part, wanted in zip((to_x, to_weight, to_bias), mask, strict=True)]
