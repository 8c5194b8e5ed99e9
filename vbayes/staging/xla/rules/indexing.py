"""Elements at places that other arrays name. A place that there is not gives NaN, where there can be one: so the step that it reaches is not taken."""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
from torch import Tensor

from .registry import Unsupported, cast, rule


@rule("index", "_unsafe_index")
def _index(out: Tensor, x: Any, indices: Any) -> Any:
    return x.at[_key(indices)].get(mode="fill")


def _key(indices: Any) -> tuple[Any, ...]:
    if any(index is not None and index.dtype == bool for index in indices):
        raise Unsupported("indexing by a mask of values")
    return tuple(slice(None) if index is None else index for index in indices)


@rule("index_select")
def _index_select(out: Tensor, x: Any, dim: int, index: Any) -> Any:
    if not x.ndim:
        return jnp.broadcast_to(x, tuple(out.shape))
    return x.at[(*[slice(None)] * (dim % x.ndim), index)].get(mode="fill").reshape(tuple(out.shape))


@rule("embedding")
def _embedding(out: Tensor, weight: Any, index: Any, *_: Any) -> Any:
    return weight.at[index].get(mode="fill")


@rule("index_put", "_unsafe_index_put")
def _index_put(out: Tensor, x: Any, indices: Any, values: Any, accumulate: bool = False) -> Any:
    values, mask = cast(values, out.dtype), indices[0]
    if len(indices) == 1 and mask is not None and mask.dtype == bool and values.size == 1:
        everywhere = mask.reshape(*mask.shape, *[1] * (x.ndim - mask.ndim))  # a mask of the leading dimensions
        return jnp.where(everywhere, x + values.reshape(()) if accumulate else values.reshape(()), x)
    at = x.at[_key(indices)]
    return at.add(values) if accumulate else at.set(values)


def _places(x: Any, dim: int, index: Any) -> tuple[Any, ...]:
    """Indices along one dimension; in step with the loops along the others."""
    grid = list(jnp.indices(index.shape, sparse=True))
    grid[dim % index.ndim] = index
    return tuple(grid)


@rule("gather")
def _gather(out: Tensor, x: Any, dim: int, index: Any, **_: Any) -> Any:
    if not x.ndim:
        return jnp.broadcast_to(x, tuple(out.shape))
    return x.at[_places(x, dim, index)].get(mode="fill")


@rule("scatter_add")
def _scatter_add(out: Tensor, x: Any, dim: int, index: Any, source: Any) -> Any:
    return x.at[_places(x, dim, index)].add(source[tuple(slice(n) for n in index.shape)])


@rule("scatter")
def _scatter(out: Tensor, x: Any, dim: int, index: Any, source: Any, *, reduce: str | None = None) -> Any:
    if reduce:
        raise Unsupported(f"scatter with reduce={reduce!r}")
    source = cast(source, out.dtype)
    if source.ndim:
        source = source[tuple(slice(n) for n in index.shape)]
    return x.at[_places(x, dim, index)].set(source)
