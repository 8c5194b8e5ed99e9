"""Products: sums of outer products become matrix products, and each product is stored in the order in which it is read."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from .blas import ENOUGH
from .ir import Graph, Pointwise, Product, Reduction, Value, View
from .ops import OPS
from .rewrite import Rewriting


def arrange(graph: Graph) -> Graph:
    """The same program; only what is larger than `ENOUGH` is changed, as its sums then are in another order."""
    return _turned(_contracted(graph))


# ---- sums of outer products ------------------------------------------------------------------------------------------


def _contracted(graph: Graph) -> Graph:
    """Σ_k u_k v_k' as one product, also behind a sign, a mask and factors that depend on no k.

    So the gradient of a triangular solve comes from K particles: K matrices, of which each was made for the sum alone.
    """
    rewriting, found = Rewriting(), False
    for value in graph.values():
        summed = (
            _summed(rewriting.of(value.views[0]), value) if isinstance(value, Reduction) and _is_sum(value) else None
        )
        if summed is None:
            rewriting.keep(value)
        else:
            rewriting.put(value, summed.value)
            found = True
    return rewriting.graph(graph) if found else graph


def _is_sum(value: Reduction) -> bool:
    """Whether it is a sum over one dimension, of matrices with more than one element."""
    if value.by.name != "sum" or not value.dtype.is_floating_point:
        return False
    view = value.views[0]
    over = [d for d in value.dims if view.shape[d] > 1]
    return len(over) == 1 and sum(n > 1 for n in value.shape) == 2 and math.prod(view.shape) > ENOUGH


def _summed(view: View, total: Reduction) -> View | None:
    """What a view sums up to over the dimensions of a total, of the total's shape; None where it is no sum of outer products."""
    made = view.value
    if not isinstance(made, Pointwise) or not view.is_whole or made.dtype != total.dtype:
        return None
    if any(
        t not in (total.dtype, torch.bool) or (isinstance(o, View) and o.value.dtype != t)
        for o, t in zip(made.operands, made.types, strict=True)
    ):
        return None
    operands: list[Any] = [_shaped(o, view.shape) if isinstance(o, View) else o for o in made.operands]
    moves = [isinstance(o, View) and any(o.strides[d] for d in total.dims) for o in operands]
    if made.op.name == "mul" and all(moves):
        return _product(operands[0], operands[1], total)
    linear = made.op.name in ("neg", "copy", "mul") or (made.op.name == "where" and operands[2] == 0 and not moves[0])
    if not linear or sum(moves) != 1:
        return None
    parts = [_part(o, total, of_sum=m) for o, m in zip(operands, moves, strict=True)]
    if any(part is None for part in parts):
        return None
    return View.whole(Pointwise(total.shape, total.dtype, tuple(parts), op=OPS[made.op.name], types=made.types))


def _part(operand: Any, total: Reduction, *, of_sum: bool) -> Any:
    if of_sum:
        return _summed(operand, total)
    return _first(operand, total) if isinstance(operand, View) else operand


def _product(a: View, b: View, total: Reduction) -> View | None:
    (k,) = (d for d in total.dims if a.shape[d] > 1)
    i, j = (d for d, n in enumerate(a.shape) if n > 1 and d not in total.dims)
    if a.strides[i] == 0:
        a, b = b, a
    if a.strides[j] or b.strides[i]:
        return None
    rows, columns = _matrix(a, i, k), _matrix(b, k, j)
    product = Product((a.shape[i], a.shape[j]), total.dtype, (rows, columns))
    return View.shaped(product, total.shape)


def _matrix(view: View, row: int, column: int) -> View:
    shape, strides = ([each[row], each[column]] for each in (view.shape, view.strides))
    return View(view.value, view.meta.as_strided(shape, strides, view.offset))


def _shaped(view: View, shape: tuple[int, ...]) -> View:
    """With dimensions of size 1 given or taken."""
    steps = iter(s for s, n in zip(view.strides, view.shape, strict=True) if n > 1)
    return View(view.value, view.meta.as_strided(shape, [next(steps) if n > 1 else 0 for n in shape], view.offset))


def _first(view: View, total: Reduction) -> View:
    """Of what is the same for all that is summed up, the first."""
    kept = [d for d in range(len(view.shape)) if d not in total.dims]
    return View(view.value, view.meta.as_strided(total.shape, [view.strides[d] for d in kept], view.offset))


# ---- which way round -------------------------------------------------------------------------------------------------


def _turned(graph: Graph) -> Graph:
    """Stores products that are read column by column in that order, by C' = B' A'."""
    values, ends = graph.values(), set(graph.outputs)
    every: dict[Value, list[View]] = {}
    counted: dict[Value, list[View]] = {}  # those of products aside, which take either
    for value in values:
        for view in value.views:
            every.setdefault(view.value, []).append(view)
            if not isinstance(value, Product):
                counted.setdefault(view.value, []).append(view)
    rewriting, found = Rewriting(), False
    for value in values:
        large = isinstance(value, Product) and len(value.shape) == 2 and value not in ends and min(value.shape) > 1
        large = large and value.size * value.views[0].shape[1] > ENOUGH
        if (
            not large
            or not all(_by_rows_and_columns(v, value) for v in every[value])
            or not _by_columns(counted.get(value, []), value)
        ):
            rewriting.keep(value)
            continue
        a, b = (rewriting.of(view).transpose() for view in value.views)
        m, n = value.shape
        rewriting.put(value, Product((n, m), value.dtype, (b, a)), lambda meta, m=m, n=n: _turn(meta, m, n))  # type: ignore[misc]
        found = True
    return rewriting.graph(graph) if found else graph


def _by_columns(views: list[View], value: Value) -> bool:
    """Whether more of its elements are read with the next one in the column than in the row."""
    n, balance = value.shape[1], 0
    for view in views:
        last = next((s for s, size in zip(reversed(view.strides), reversed(view.shape), strict=True) if size > 1), 0)
        balance += math.prod(view.shape) * ((last == n) - (last == 1))
    return balance > 0


def _by_rows_and_columns(view: View, value: Value) -> bool:
    """Whether each dimension of the view runs along rows, or along columns, and none of them beyond its end into the next."""
    m, n = value.shape
    steps = [(step, size - 1) for step, size in zip(view.strides, view.shape, strict=True) if step]
    down, along = (sum(count for step, count in steps if step == one) for one in (n, 1))
    return view.offset == 0 and {step for step, _ in steps} <= {1, n} and down < m and along < n


def _turn(meta: Tensor, m: int, n: int) -> Tensor:
    steps = {1: m, n: 1}
    strides = [steps.get(s, 0) if size > 1 else 0 for s, size in zip(meta.stride(), meta.shape, strict=True)]
    return torch.empty(n, m, dtype=meta.dtype, device="meta").as_strided(meta.shape, strides)
