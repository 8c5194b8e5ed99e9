"""Arithmetic, element by element, and arrays that are made from nothing.

What has the operands of its row in `ops` needs no rule; see `lower`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from ..ir import Iota, Operand, Pointwise, Unsupported, View
from ..ops import OPS, Casts, Op
from .registry import fill, pointwise, rule, shape_and_type

POWERS = {
    0: "one",
    0.5: "sqrt",
    1: "copy",
    2: "square",
    3: "cube",
    -0.5: "rsqrt",
    -1: "reciprocal",
    -2: "reciprocal_square",
}

LANES = 64  # elements that the widest registers hold: a shorter loop is not worth a form of its own


def plain(out: Tensor, op: Op, *operands: Operand) -> View:
    """An operation that has the operands of its row."""
    types = [together(operands)] * len(operands) if op.casts is Casts.TOGETHER else None
    return pointwise(out, op.name, operands, types)


def together(operands: Sequence[Operand]) -> torch.dtype:
    """The type that torch would compare these in."""
    metas: list[Any] = [a.meta if isinstance(a, View) else a for a in operands]
    return metas[0].dtype if len(metas) == 1 else torch.result_type(*metas)


@rule("add")
def _add(out: Tensor, a: Operand, b: Operand, alpha: float = 1) -> View:
    return pointwise(out, "add", [a, b]) if alpha == 1 else pointwise(out, "add_scaled", [a, b, alpha])


@rule("sub")
def _sub(out: Tensor, a: Operand, b: Operand, alpha: float = 1) -> View:
    return pointwise(out, "sub", [a, b]) if alpha == 1 else pointwise(out, "sub_scaled", [a, b, alpha])


@rule("div")
def _div(out: Tensor, a: Operand, b: Operand, *, rounding_mode: str | None = None) -> View:
    if rounding_mode and not out.dtype.is_floating_point:
        raise Unsupported(f"div with rounding_mode={rounding_mode!r} of integers")
    return pointwise(out, f"div_{rounding_mode}" if rounding_mode else "div", [a, b])


@rule("round")
def _round(out: Tensor, a: Operand, decimals: int = 0) -> View:
    if decimals:
        raise Unsupported("round to decimals")
    return pointwise(out, "round", [a])


@rule("pow")
def _pow(out: Tensor, base: Operand, exponent: Operand) -> View:
    floats = out.dtype.is_floating_point
    if not isinstance(exponent, View) and exponent in POWERS and (floats or exponent in (1, 2, 3)):
        return pointwise(out, POWERS[exponent], [base])
    if not floats:
        raise Unsupported("pow of integers")
    return pointwise(out, "pow", [base, exponent])


@rule("log")
def _log(out: Tensor, operand: Operand) -> View:
    """Of what is true or false, as a `Delta` has it, a choice: told to take the logarithm, gcc makes a branch of it and leaves the whole loop to single numbers."""
    source = operand.value if isinstance(operand, View) and operand.is_whole else None
    truth = source.views[0] if isinstance(source, Pointwise) and source.op.name == "copy" and source.views else None
    if truth is None or truth.value.dtype != torch.bool or out.numel() < LANES:
        return plain(out, OPS["log"], operand)
    return where(out, View(truth.value, truth.meta.expand(out.shape)), 0.0, -math.inf)


@rule("polygamma")
def _polygamma(out: Tensor, n: int, operand: View) -> View:
    if n not in (0, 1):
        raise Unsupported(f"polygamma of order {n}")
    return pointwise(out, ("digamma", "trigamma")[n], [operand])


@rule("remainder")
def _remainder(out: Tensor, a: Operand, b: Operand) -> View:
    return pointwise(out, "remainder", [a, b])


@rule("clone", "_to_copy")
def _to_copy(out: Tensor, operand: Operand, **_: Any) -> View:
    if out.dtype == torch.bool:
        return pointwise(out, "nonzero", [operand], [together([operand])])
    return pointwise(out, "copy", [operand])


@rule("copy")
def _copy(out: Tensor, base: View, source: Operand, *_: Any) -> View:
    return pointwise(out, "copy", [source])


@rule("where")
def where(out: Tensor, condition: View, yes: Operand, no: Operand) -> View:
    return pointwise(out, "where", [condition, yes, no], [torch.bool, out.dtype, out.dtype])


@rule("masked_fill")
def _masked_fill(out: Tensor, base: View, mask: View, value: Operand) -> View:
    return where(out, mask, value, base)


@rule("clamp")
def _clamp(out: Tensor, base: Operand, low: Operand | None = None, high: Operand | None = None) -> Operand:
    for bound, op in ((low, "maximum"), (high, "minimum")):
        if bound is not None:
            base = pointwise(out, op, [base, bound])
    return base


@rule("clamp_min")
def _clamp_min(out: Tensor, base: Operand, low: Operand) -> Operand:
    return _clamp(out, base, low)


@rule("clamp_max")
def _clamp_max(out: Tensor, base: Operand, high: Operand) -> Operand:
    return _clamp(out, base, None, high)


@rule("full", "full_like", "scalar_tensor")
def _full(out: Tensor, *args: Any, **_: Any) -> View:
    return _filled(out, args[-1])


@rule("new_full")
def _new_full(out: Tensor, like: View, shape: Any, value: Operand, **_: Any) -> View:
    return _filled(out, value)


@rule("zeros", "zeros_like", "new_zeros", "empty", "empty_like", "new_empty", "empty_strided", "new_empty_strided")
def _zeros(out: Tensor, *_: Any, **__: Any) -> View:
    return _filled(out, 0)


@rule("ones", "ones_like", "new_ones")
def _ones(out: Tensor, *_: Any, **__: Any) -> View:
    return _filled(out, 1)


def _filled(out: Tensor, value: Operand) -> View:
    if isinstance(value, View):
        raise Unsupported("full of a tensor")
    return fill(**shape_and_type(out), value=value)


@rule("arange")
def _arange(out: Tensor, *args: Any, **_: Any) -> View:
    start, step = (args[0] if len(args) > 1 else 0), (args[2] if len(args) > 2 else 1)
    return View.whole(Iota(**shape_and_type(out), start=start, step=step))


@rule("iota")
def _iota(out: Tensor, length: int, *, start: int, step: int, **_: Any) -> View:
    return View.whole(Iota(**shape_and_type(out), start=start, step=step))


@rule("eye")
def _eye(out: Tensor, n: int, m: int | None = None, **_: Any) -> View:
    """torch's own decomposition counts in the least type that holds the numbers, and there is no `arange` of some of these."""
    rows, columns = (View.whole(Iota((size,), torch.int64)) for size in out.shape)
    places = [View(rows.value, rows.meta.unsqueeze(1)), columns]
    equal = pointwise(torch.empty(out.shape, dtype=torch.bool, device="meta"), "eq", places, [torch.int64] * 2)
    return pointwise(out, "copy", [equal])
