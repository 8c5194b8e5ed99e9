"""The same numbers in another shape, and arrays that are put together from others."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
import torch
from jax import lax
from torch import Tensor

from .made import filled
from .registry import Unsupported, cast, rule


@rule("view", "_unsafe_view", "_reshape_copy", "squeeze", "unsqueeze")
def _reshaped(out: Tensor, x: Any, *_: Any) -> Any:
    if x.size != math.prod(out.shape):
        raise Unsupported("an array seen as another type")
    return x.reshape(tuple(out.shape))


@rule("expand")
def _expand(out: Tensor, x: Any, *_: Any, **__: Any) -> Any:
    return jnp.broadcast_to(x, tuple(out.shape))


@rule("permute")
def _permute(out: Tensor, x: Any, dims: Any) -> Any:
    return jnp.transpose(x, tuple(d % x.ndim for d in dims))


@rule("t")
def _t(out: Tensor, x: Any) -> Any:
    return x.T


@rule("transpose")
def _transpose(out: Tensor, x: Any, a: int, b: int) -> Any:
    return jnp.swapaxes(x, a, b) if x.ndim else x


@rule("select")
def _select(out: Tensor, x: Any, dim: int, index: int) -> Any:
    return lax.index_in_dim(x, index, dim % x.ndim, keepdims=False)


@rule("slice")
def _slice(out: Tensor, x: Any, dim: int = 0, start: Any = None, end: Any = None, step: int = 1) -> Any:
    return x[_cut(x.ndim, dim, start, end, step)]


def _cut(rank: int, dim: int, start: Any, end: Any, step: int) -> tuple[slice, ...]:
    return (*[slice(None)] * (dim % rank), slice(start, end, step))


@rule("split", "split_with_sizes")
def _split(out: Any, x: Any, sizes: Any, dim: int = 0) -> Any:
    starts = [0]
    for part in out:
        starts.append(starts[-1] + part.shape[dim])
    return [lax.slice_in_dim(x, a, b, axis=dim % x.ndim) for a, b in zip(starts, starts[1:], strict=False)]


@rule("unbind")
def _unbind(out: Any, x: Any, dim: int = 0) -> Any:
    return [lax.index_in_dim(x, i, dim % x.ndim, keepdims=False) for i in range(x.shape[dim])]


@rule("diagonal")
def _diagonal(out: Tensor, x: Any, offset: int = 0, dim1: int = 0, dim2: int = 1) -> Any:
    return jnp.diagonal(x, offset, dim1, dim2)


def seen(op: Callable[..., Any], x: Any, *args: Any, **kwargs: Any) -> Any:
    """Any operation of torch that returns its argument's own memory in another order: what it does to the places of an array, it does to the array."""
    places = op(torch.arange(x.size, device="cpu").view(x.shape), *args, **kwargs)
    return x.reshape(-1)[jnp.asarray(places.cpu().numpy())]


@rule("cat")
def _cat(out: Tensor, arrays: Any, dim: int = 0) -> Any:
    some = [cast(a, out.dtype) for a in arrays if a.shape != (0,)]  # which torch lets stand for nothing
    return jnp.concatenate(some, dim) if some else filled(out, 0)


@rule("stack")
def _stack(out: Tensor, arrays: Any, dim: int = 0) -> Any:
    return jnp.stack([cast(a, out.dtype) for a in arrays], dim)


@rule("flip")
def _flip(out: Tensor, x: Any, dims: Any) -> Any:
    return jnp.flip(x, tuple(dims))


@rule("roll")
def _roll(out: Tensor, x: Any, shifts: Any, dims: Any = ()) -> Any:
    shifts = [shifts] if isinstance(shifts, int) else list(shifts)
    dims = [dims] if isinstance(dims, int) else list(dims)
    return jnp.roll(x, shifts, dims) if dims else jnp.roll(x, shifts[0])


@rule("tril")
def _tril(out: Tensor, x: Any, k: int = 0) -> Any:
    return jnp.tril(x, k)


@rule("triu")
def _triu(out: Tensor, x: Any, k: int = 0) -> Any:
    return jnp.triu(x, k)


@rule("constant_pad_nd")
def _pad(out: Tensor, x: Any, pad: Any, value: Any = 0) -> Any:
    each = [(0, 0, 0)] * x.ndim
    for i in range(len(pad) // 2):
        each[-1 - i] = (pad[2 * i], pad[2 * i + 1], 0)
    return lax.pad(x, cast(value, out.dtype), each)


@rule("slice_scatter")
def _slice_scatter(
    out: Tensor, base: Any, source: Any, dim: int = 0, start: Any = None, end: Any = None, step: int = 1
) -> Any:
    source, dim = cast(source, out.dtype), dim % base.ndim
    first, *_ = slice(start, end, step).indices(base.shape[dim])
    shape = list(base.shape)
    shape[dim] = len(range(*slice(start, end, step).indices(base.shape[dim])))
    source = jnp.broadcast_to(source, shape)
    if step == 1:
        return lax.dynamic_update_slice_in_dim(base, source, first, dim)
    return base.at[_cut(base.ndim, dim, start, end, step)].set(source)


@rule("select_scatter")
def _select_scatter(out: Tensor, base: Any, source: Any, dim: int, index: int) -> Any:
    dim %= base.ndim
    return lax.dynamic_update_index_in_dim(base, cast(source, out.dtype), index % base.shape[dim], dim)


@rule("diagonal_scatter")
def _diagonal_scatter(out: Tensor, base: Any, source: Any, offset: int = 0, dim1: int = 0, dim2: int = 1) -> Any:
    base = jnp.moveaxis(base, (dim1, dim2), (-2, -1))
    rows, columns = base.shape[-2:]
    before = max(0, -offset)  # rows without an element of the diagonal
    after = rows - before - source.shape[-1]
    padded = jnp.pad(cast(source, out.dtype), [(0, 0)] * (source.ndim - 1) + [(before, after)])
    on_it = jnp.arange(columns)[None, :] - jnp.arange(rows)[:, None] == offset
    # A choice and no scattering, which XLA does one number after the other.
    return jnp.moveaxis(jnp.where(on_it, padded[..., None], base), (-2, -1), (dim1, dim2))


@rule("as_strided_scatter")
def _as_strided_scatter(out: Tensor, base: Any, source: Any, size: Any, stride: Any, offset: Any = None) -> Any:
    places = torch.arange(base.size, device="cpu").as_strided(size, stride, offset or 0)
    return base.reshape(-1).at[jnp.asarray(places.cpu().numpy())].set(cast(source, out.dtype)).reshape(base.shape)
