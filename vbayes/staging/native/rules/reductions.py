"""Sums and what is like them: over some dimensions, or along one."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ..ir import ArgExtreme, Operand, Reduction, Scan, View
from ..ops import COMBINES
from .registry import cast, copied, elementwise, fill, known, pointwise, rule, shape_and_type, truth


def reduced(out: Tensor, by: str, operand: Operand, dims: Any = None, keepdim: bool = False, **_: Any) -> View:
    """The operand combined over some dimensions; over all of them if `dims` is None or empty."""
    like = shape_and_type(out)
    if not isinstance(operand, View):
        return fill(**like, value=operand)
    if by in ("any", "all"):
        operand = truth(operand)
    elif operand.value.dtype == torch.bool and like["dtype"] != torch.bool:
        operand = cast(operand, like["dtype"])
    gone, kept = _dims(operand, dims)
    return View.shaped(Reduction(kept, like["dtype"], (operand,), dims=gone, by=COMBINES[by]), like["shape"])


def _dims(operand: View, dims: Any) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """The dimensions that go, and the sizes of those that stay."""
    rank = len(operand.shape)
    dims = [dims] if isinstance(dims, int) else range(rank) if not dims else dims
    gone = tuple(sorted(d % rank for d in dims)) if rank else ()
    return gone, tuple(n for d, n in enumerate(operand.shape) if d not in gone)


@rule("mean")
def _mean(out: Tensor, operand: View, dims: Any = None, keepdim: bool = False, **_: Any) -> View:
    total = reduced(out, "sum", operand, dims, keepdim)
    return pointwise(out, "div", [total, _terms(operand, total)])


def _terms(operand: View, total: View) -> float:
    """How many numbers each total has."""
    return operand.meta.numel() / max(1, total.meta.numel())


@rule("var")
def _var(
    out: Tensor,
    operand: View,
    dims: Any = None,
    unbiased: bool = True,
    keep: bool = False,
    *,
    correction: float | None = None,
    keepdim: bool = False,
) -> View:
    if isinstance(dims, bool):  # var(x, unbiased)
        dims, unbiased = None, dims
    correction = float(unbiased) if correction is None else correction
    gone, kept = _dims(operand, dims)
    beside = [1 if d in gone else n for d, n in enumerate(operand.shape)]
    sums = View.shaped(Reduction(kept, known(out.dtype), (operand,), dims=gone, by=COMBINES["sum"]), beside)
    mean = elementwise("div", beside, out.dtype, sums, _terms(operand, sums))
    squares = elementwise("square_difference", operand.shape, out.dtype, operand, mean)
    total = reduced(out, "sum", squares, dims, keep or keepdim)
    return pointwise(out, "div", [total, max(0.0, _terms(operand, total) - correction)])


@rule("cumsum")
def _cumsum(out: Tensor, operand: View, dim: int, **_: Any) -> View:
    return View.whole(Scan(**shape_and_type(out), operands=(operand,), dim=dim % max(1, out.dim())))


@rule("max")
def _max(out: Any, operand: View, other: Any = None, keepdim: bool = False) -> Any:
    return _extreme(out, operand, other, "maximum", "amax")


@rule("min")
def _min(out: Any, operand: View, other: Any = None, keepdim: bool = False) -> Any:
    return _extreme(out, operand, other, "minimum", "amin")


def _extreme(out: Any, operand: View, other: Any, of_two: str, of_many: str) -> Any:
    """Of two arrays; of all elements; or along one dimension, with where it is."""
    if isinstance(other, View):
        return pointwise(out, of_two, [operand, other])
    if other is None:
        return reduced(out, of_many, operand)
    values, indices = out
    best = reduced(values, of_many, operand, other)
    return [best, _where(indices, operand, other, largest=of_many == "amax")]


@rule("argmax")
def _argmax(out: Tensor, operand: View, dim: int | None = None, keepdim: bool = False) -> View:
    return _where_in(out, operand, dim, largest=True)


@rule("argmin")
def _argmin(out: Tensor, operand: View, dim: int | None = None, keepdim: bool = False) -> View:
    return _where_in(out, operand, dim, largest=False)


def _where_in(out: Tensor, operand: View, dim: int | None, *, largest: bool) -> View:
    if dim is not None:
        return _where(out, operand, dim, largest=largest)
    flat = copied(operand)
    return _where(out, View(flat.value, flat.meta.reshape(-1)), 0, largest=largest)


def _where(out: Tensor, operand: View, dim: int, *, largest: bool) -> View:
    dim %= max(1, len(operand.shape))
    kept = tuple(n for d, n in enumerate(operand.shape) if d != dim)
    return View.shaped(ArgExtreme(kept, torch.int64, (operand,), dim=dim, largest=largest), out.shape)
