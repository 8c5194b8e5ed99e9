"""The largest or the mean of each window of a picture."""

from __future__ import annotations

import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from torch import Tensor

from .registry import rule


def _each(option: Any, space: int, default: Any = None) -> list[int]:
    option = list(option) if option else list(default)
    return option * (space if len(option) == 1 else 1)


def _space(x: Any) -> int:
    return 2 if x.ndim < 5 else 3


def _windows(shape: Any, made: Any, kernel: Any, stride: Any, padding: Any, dilation: Any) -> Any:
    """(windows, elements of one) places in a flat picture, and whether they are inside it."""
    places, inside = np.zeros((1, 1), np.int64), np.ones((1, 1), bool)
    for size, count, k, s, p, d in zip(shape, made, kernel, stride, padding, dilation, strict=True):
        along = np.arange(count)[:, None] * s - p + np.arange(k)[None, :] * d
        here = (along >= 0) & (along < size)
        places = places[:, None, :, None] * size + along[None, :, None, :]
        inside = inside[:, None, :, None] & here[None, :, None, :]
        shape_of = (places.shape[0] * count, places.shape[2] * k)
        places, inside = places.reshape(shape_of), inside.reshape(shape_of)
    return np.where(inside, places, 0), inside


@rule("max_pool2d_with_indices", "max_pool3d_with_indices")
def _max_pool(
    out: Any, x: Any, kernel: Any, stride: Any = (), padding: Any = (0,), dilation: Any = (1,), ceil_mode: bool = False
) -> Any:
    space = _space(x)
    size, made, kernel = x.shape[-space:], out[0].shape[-space:], _each(kernel, space)
    places, inside = _windows(
        size, made, kernel, _each(stride, space, kernel), _each(padding, space), _each(dilation, space)
    )
    seen = jnp.where(inside, x.reshape(*x.shape[:-space], math.prod(size))[..., places], -jnp.inf)
    best = jnp.argmax(seen, -1)[..., None]
    found = jnp.take_along_axis(jnp.broadcast_to(places, seen.shape), best, axis=-1)
    shape = tuple(out[0].shape)
    return jnp.take_along_axis(seen, best, axis=-1).reshape(shape), found.reshape(shape)


@rule("max_pool2d_with_indices_backward", "max_pool3d_with_indices_backward")
def _max_pool_backward(out: Tensor, gradient: Any, x: Any, *options: Any) -> Any:
    space, places = _space(x), options[-1]
    lead, size = math.prod(x.shape[:-space]), math.prod(x.shape[-space:])
    rows = jnp.arange(lead)[:, None]
    return (
        jnp.zeros((lead, size), gradient.dtype)
        .at[rows, places.reshape(lead, -1)]
        .add(gradient.reshape(lead, -1))
        .reshape(x.shape)
    )


def _mean(x: Any, made: Any, options: Any) -> Any:
    names = ("kernel", "stride", "padding", "ceil_mode", "count_include_pad", "divisor")
    given = dict(zip(names, options, strict=False))
    space = len(made)
    size, kernel = x.shape[-space:], _each(given["kernel"], space)
    stride, padding = _each(given.get("stride"), space, kernel), _each(given.get("padding"), space, (0,))
    places, inside = _windows(size, made, kernel, stride, padding, [1] * space)
    if given.get("divisor"):
        count: Any = given["divisor"]
    elif given.get("count_include_pad", True):  # what the picture has with its padding, and no more
        wide = [n + 2 * p for n, p in zip(size, padding, strict=True)]
        count = _windows(wide, made, kernel, stride, [0] * space, [1] * space)[1].sum(1)
    else:
        count = inside.sum(1)
    seen = jnp.where(inside, x.reshape(*x.shape[:-space], math.prod(size))[..., places], 0)
    return (seen.sum(-1) / jnp.asarray(count, x.dtype)).reshape(*x.shape[:-space], *made)


@rule("avg_pool2d", "avg_pool3d")
def _avg_pool(out: Tensor, x: Any, *options: Any) -> Any:
    return _mean(x, out.shape[-_space(x) :], options)


@rule("avg_pool2d_backward", "avg_pool3d_backward")
def _avg_pool_backward(out: Tensor, gradient: Any, x: Any, *options: Any) -> Any:
    _, pull = jax.vjp(lambda each: _mean(each, gradient.shape[-_space(x) :], options), x)
    return pull(gradient)[0]
