"""Order: sorting, and what is found in what is sorted."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from torch import Tensor

from .registry import Unsupported, cast, rule, together


def _sorted(x: Any, dim: int, descending: bool) -> tuple[Any, Any]:
    if not x.ndim:
        return x, jnp.zeros((), "int64")
    order = jnp.argsort(x, axis=dim, stable=True, descending=descending)
    return jnp.take_along_axis(x, order, axis=dim), order


@rule("sort")
def _sort(out: Any, x: Any, dim: int = -1, descending: bool = False, *, stable: Any = None) -> Any:
    return _sorted(x, dim, descending)


@rule("topk")
def _topk(out: Any, x: Any, k: int, dim: int = -1, largest: bool = True, sorted: bool = True) -> Any:
    return [_first(part, k, dim) for part in _sorted(x, dim, largest)]


def _first(x: Any, k: int, dim: int) -> Any:
    return jax.lax.slice_in_dim(x, 0, k, axis=dim % x.ndim) if x.ndim else x


@rule("kthvalue")
def _kthvalue(out: Any, x: Any, k: int, dim: int = -1, keepdim: bool = False) -> Any:
    return [_one(part, k - 1, dim, keepdim) for part in _sorted(x, dim, False)]


def _one(x: Any, number: int, dim: int, keepdim: bool) -> Any:
    return jax.lax.index_in_dim(x, number, dim % x.ndim, keepdims=keepdim) if x.ndim else x


@rule("median")
def _median(out: Any, x: Any, dim: Any = None, keepdim: bool = False) -> Any:
    """The lower of the two in the middle; NaN where there is one."""
    if dim is None:
        made = _one(_sorted(x.reshape(-1), 0, False)[0], (x.size - 1) // 2, 0, False)
        return jnp.where(jnp.isnan(x).any(), jnp.nan, made) if jnp.issubdtype(x.dtype, jnp.floating) else made
    if not x.ndim:
        return x, jnp.zeros((), "int64")
    value, place = (_one(part, (x.shape[dim] - 1) // 2, dim, keepdim) for part in _sorted(x, dim, False))
    if jnp.issubdtype(x.dtype, jnp.floating):
        gone = jnp.isnan(x).any(dim, keepdims=keepdim)
        value = jnp.where(gone, jnp.nan, value)
        place = jnp.where(gone, jnp.argmax(jnp.isnan(x), dim, keepdims=keepdim), place)
    return value, place


@rule("searchsorted")
def _searchsorted(
    out: Tensor, boundaries: Any, x: Any, *, out_int32: bool = False, right: bool = False, side: str | None = None, sorter: Any = None,
) -> Any:  # fmt: skip
    if sorter is not None:
        raise Unsupported("searchsorted with a sorter")
    dtype = together(boundaries, x)
    boundaries, x = cast(boundaries, dtype), cast(x, dtype)
    right = right or side == "right"
    if boundaries.ndim == 1:
        return jnp.searchsorted(boundaries, x, side="right" if right else "left")
    below = boundaries[..., None, :] <= x[..., None] if right else boundaries[..., None, :] < x[..., None]
    return below.sum(-1)


@rule("bucketize")
def _bucketize(out: Tensor, x: Any, boundaries: Any, *, out_int32: bool = False, right: bool = False) -> Any:
    return _searchsorted(out, boundaries, x, right=right)
