"""Arrays that are put together from others, in parts."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from ..ir import Assembly, Part, View
from .registry import cast, fill, rule, shape_and_type, viewed


def _assembled(out: Tensor, pieces: list[tuple[Tensor, View]]) -> View:
    """Arrays written one after the other, each to a place in the result."""
    parts: list[Part] = [(int(to.storage_offset()), tuple(to.stride()), tuple(to.shape)) for to, _ in pieces]
    arrays = tuple(cast(array, out.dtype).expand(to.shape) for to, array in pieces)
    return View.whole(Assembly(**shape_and_type(out), operands=arrays, parts=tuple(parts)))


def _whole(out: Tensor) -> Tensor:
    """The memory of the result, from which its parts are taken."""
    return torch.empty(tuple(out.shape), dtype=out.dtype, device="meta")


def _replaced(out: Tensor, base: View, source: View, part: Callable[[Tensor], Tensor]) -> View:
    """The base with another array in a part of it."""
    whole = _whole(out)
    return _assembled(out, [(whole, base), (part(whole), source)])


@rule("cat")
def _cat(out: Tensor, arrays: list[View], dim: int = 0) -> View:
    pieces, whole, start = [], _whole(out), 0
    for array in arrays:
        if array.shape == (0,):  # torch lets it stand for nothing
            continue
        pieces.append((whole.narrow(dim, start, array.shape[dim]), array))
        start += array.shape[dim]
    return _assembled(out, pieces)


@rule("slice_scatter")
def _slice_scatter(
    out: Tensor, base: View, source: View, dim: int = 0, start: Any = None, end: Any = None, step: int = 1
) -> View:
    return _replaced(out, base, source, lambda w: torch.ops.aten.slice(w, dim, start, end, step))


@rule("select_scatter")
def _select_scatter(out: Tensor, base: View, source: View, dim: int, index: int) -> View:
    return _replaced(out, base, source, lambda w: w.select(dim, index))


@rule("diagonal_scatter")
def _diagonal_scatter(out: Tensor, base: View, source: View, offset: int = 0, dim1: int = 0, dim2: int = 1) -> View:
    return _replaced(out, base, source, lambda w: w.diagonal(offset, dim1, dim2))


@rule("as_strided_scatter")
def _as_strided_scatter(
    out: Tensor, base: View, source: View, size: Any, stride: Any, offset: int | None = None
) -> View:
    return _replaced(out, base, source, lambda w: w.as_strided(size, stride, offset or 0))


@rule("constant_pad_nd")
def _pad(out: Tensor, base: View, pad: list[int], value: float = 0) -> View:
    for i in range(len(pad) // 2):  # a negative padding cuts off
        low, high = (max(0, -n) for n in pad[2 * i : 2 * i + 2])
        base = View(base.value, base.meta.narrow(-1 - i, low, base.shape[-1 - i] - low - high))
    sizes = base.shape

    def inside(whole: Tensor) -> Tensor:
        for i in range(len(pad) // 2):
            whole = whole.narrow(-1 - i, max(0, pad[2 * i]), sizes[-1 - i])
        return whole

    return _replaced(out, fill(**shape_and_type(out), value=value), base, inside)


@rule("_unsafe_view", "_reshape_copy")
def _unsafe_view(out: Tensor, base: View, shape: Any) -> Any:
    return viewed(torch.ops.aten.view.default, base, shape)
