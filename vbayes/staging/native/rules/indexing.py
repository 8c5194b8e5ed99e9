"""Elements at places that other arrays name."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ..ir import Gather, Iota, Operand, Scatter, Unsupported, View
from .arithmetic import where
from .registry import copied, fill, pointwise, rule, shape_and_type

Shape = tuple[int, ...]


@rule("index", "_unsafe_index")
def _index(out: Tensor, base: View, indices: list[View | None]) -> View:
    places, loops, arrays = _indexing(base.shape, indices, tuple(out.shape))
    return View.whole(Gather(**shape_and_type(out), operands=(base, *arrays), places=places, loops=loops))


@rule("index_select")
def _index_select(out: Tensor, base: View, dim: int, index: View) -> View:
    return _index(out, base, [None] * (dim % len(base.shape)) + [index])


@rule("embedding")
def _embedding(out: Tensor, weight: View, index: View, *_: Any) -> View:
    return _index(out, weight, [index])


@rule("index_put", "_unsafe_index_put")
def _index_put(out: Tensor, base: View, indices: list[View | None], values: View, accumulate: bool = False) -> View:
    mask = indices[0]
    if len(indices) == 1 and mask is not None and mask.value.dtype == torch.bool and values.meta.numel() == 1:
        below = (*mask.shape, *[1] * (len(base.shape) - len(mask.shape)))  # a mask of the leading dimensions
        everywhere = View(mask.value, mask.meta.view(below).expand(base.shape))
        one = View(values.value, values.meta.reshape(()).expand(base.shape))
        return where(out, everywhere, pointwise(out, "add", [base, one]) if accumulate else one, base)
    shape = _indexed_shape(base.shape, indices)
    places, loops, arrays = _indexing(base.shape, indices, shape)
    operands = (copied(base), values.expand(shape), *arrays)
    return View.whole(
        Scatter(**shape_and_type(out), operands=operands, places=places, loops=loops, accumulate=accumulate)
    )


def _indexed_shape(shape: Shape, indices: list[View | None]) -> Shape:
    probes = [None if i is None else torch.zeros(i.shape, dtype=torch.int64, device="meta") for i in indices]
    return tuple(torch.ops.aten.index(torch.empty(shape, device="meta"), probes).shape)


def _indexing(shape: Shape, indices: list[View | None], out: Shape) -> tuple[tuple[int | None, ...], Shape, list[View]]:
    """How the loops of the result and the index arrays make up the indices of the base: `places`, `loops`, arrays."""
    given = {d: index for d, index in enumerate(indices) if index is not None}
    if any(index.value.dtype not in (torch.int64, torch.int32) for index in given.values()):
        raise Unsupported("indexing by a mask")
    block = torch.broadcast_shapes(*(index.shape for index in given.values()))
    first = min(given)
    at = first if list(given) == list(range(first, max(given) + 1)) else 0  # where the index's dimensions come
    arrays: list[View] = []
    places: list[int | None] = [None] * len(shape)
    for d, index in given.items():
        seen = index.meta.expand(block)
        for _ in range(at):
            seen = seen.unsqueeze(0)
        for _ in range(len(out) - at - len(block)):
            seen = seen.unsqueeze(-1)
        places[d] = len(arrays)
        arrays.append(View(index.value, seen.expand(out)))
    loops = tuple(d for d in range(len(out)) if not at <= d < at + len(block))
    return tuple(places), loops, arrays


def _along(base: View, dim: int) -> dict[str, Any]:
    """The fields of a value that is indexed along one dimension and runs in step along the others."""
    rank = len(base.shape)
    dim %= max(rank, 1)
    return {
        "places": tuple(0 if d == dim else None for d in range(rank)),
        "loops": tuple(d for d in range(rank) if d != dim),
    }


@rule("gather")
def _gather(out: Tensor, base: View, dim: int, index: View, **_: Any) -> View:
    return View.whole(Gather(**shape_and_type(out), operands=(base, index), **_along(base, dim)))


@rule("scatter_add")
def _scatter_add(out: Tensor, base: View, dim: int, index: View, source: View) -> View:
    return _scattered(out, base, dim, index, source, accumulate=True)


@rule("scatter")
def _scatter(out: Tensor, base: View, dim: int, index: View, source: Operand, **_: Any) -> View:
    if not isinstance(source, View):
        source = fill((), base.value.dtype, source).expand(index.shape)
    return _scattered(out, base, dim, index, source, accumulate=False)


def _scattered(out: Tensor, base: View, dim: int, index: View, source: View, *, accumulate: bool) -> View:
    if source.shape != index.shape:
        raise Unsupported("scatter of a part")
    operands = (copied(base), source, index)
    return View.whole(Scatter(**shape_and_type(out), operands=operands, **_along(base, dim), accumulate=accumulate))


@rule("flip")
def _flip(out: Tensor, base: View, dims: list[int]) -> View:
    for dim in dims:
        n = base.shape[dim]
        indices: list[View | None] = [None] * len(base.shape)
        indices[dim] = View.whole(Iota((n,), torch.int64, start=n - 1, step=-1))
        places, loops, arrays = _indexing(base.shape, indices[: dim % len(base.shape) + 1], base.shape)
        base = View.whole(Gather(base.shape, base.value.dtype, (base, *arrays), places=places, loops=loops))
    return base
