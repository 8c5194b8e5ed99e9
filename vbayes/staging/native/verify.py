"""What must be true of a program after each pass, checked."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from .c_numbers import TYPES
from .ir import (
    ArgExtreme,
    Assembly,
    Cholesky,
    Gather,
    Graph,
    Input,
    Iota,
    Pointwise,
    Product,
    Reduction,
    Scan,
    Scatter,
    Triangular,
    Value,
    View,
)  # fmt: skip
from .memory import Layout
from .ops import Casts
from .printer import line, names
from .schedule import Schedule, domain
from .verify_memory import check_memory


class Broken(Exception):
    """A program that can't be: a pass made a mistake."""


def verify(form: Graph | Schedule | Layout) -> None:
    """Checks what a pass made.

    Raises:
        Broken: With the value, and what is wrong with it.
    """
    if isinstance(form, Graph):
        _graph(form)
    elif isinstance(form, Schedule):
        _graph(form.graph)
        _schedule(form)
    elif wrong := check_memory(form):
        raise _broken(wrong[0], wrong[1], form.schedule.graph)


def _broken(value: Value, reason: str, graph: Graph) -> Broken:
    return Broken(f"{reason}: `{line(value, names(graph))}`")


def _graph(graph: Graph) -> None:
    given = {*graph.inputs, *graph.constants}
    for value in graph.values():
        if wrong := _wrong_with(value, given):
            raise _broken(value, wrong, graph)
    for new, old in zip(graph.outputs[: graph.states], graph.inputs, strict=False):
        if (new.shape, new.dtype) != (old.shape, old.dtype):
            raise _broken(new, "a state that changes its shape or type", graph)
    if len(set(graph.outputs)) < len(graph.outputs):
        raise _broken(graph.outputs[0], "outputs that are one array", graph)


def _wrong_with(value: Value, given: set[Input]) -> str:
    """What is wrong with a value by itself; empty if nothing."""
    if isinstance(value, Input):
        return "" if value in given else "not defined: it is no input of the program"
    if value.dtype not in TYPES:
        return "a type that C does not have"
    for view in value.views:
        if view.meta.dtype != view.value.dtype:
            return "an operand is read as another type"
        if not _within(view.offset, view.meta.stride(), view.shape, view.value.size):
            return "an operand is read beyond its array"
    return RULES[type(value)](value)


def _within(offset: int, strides: tuple[int, ...], shape: tuple[int, ...], size: int) -> bool:
    """Whether all elements of a strided part lie in an array of that size."""
    if 0 in shape:
        return True
    last = offset + sum((n - 1) * s for n, s in zip(shape, strides, strict=True))
    return offset >= 0 and last < size and all(s >= 0 for s in strides)


def _pointwise(value: Pointwise) -> str:
    if len(value.operands) != value.op.operands or len(value.types) != len(value.operands):
        return f"{value.op.name} takes {value.op.operands} operands, each with a type"
    if any(view.shape != value.shape for view in value.views):
        return "an operand of another shape"
    own = {
        Casts.RESULT: (value.dtype,) * len(value.types),
        Casts.TOGETHER: (value.types[0],) * len(value.types),
        Casts.CHOICE: (torch.bool, value.dtype, value.dtype),
    }
    if value.types != own[value.op.casts] or (value.op.casts is Casts.TOGETHER and value.dtype != torch.bool):
        return "operands are cast to types that do not fit"
    return ""


def _reduction(value: Reduction) -> str:
    shape = value.views[0].shape
    if list(value.dims) != sorted({d for d in value.dims if 0 <= d < len(shape)}):
        return "dimensions that the operand does not have"
    kept = tuple(n for d, n in enumerate(shape) if d not in value.dims)
    return "" if kept == value.shape else "its shape is not that of the operand without the dimensions"


def _iota(value: Iota) -> str:
    return "" if len(value.shape) == 1 and not value.operands else "more than one dimension"


def _indexed(value: Gather | Scatter, base: tuple[int, ...], arrays: tuple[View, ...], over: tuple[int, ...]) -> str:
    named = sorted(which for which in value.places if which is not None)
    if named != list(range(len(arrays))) or len(value.places) != len(base):
        return "index arrays do not fit the dimensions"
    if any(array.shape != over or array.value.dtype not in (torch.int64, torch.int32) for array in arrays):
        return "an index array of another shape or type"
    free = [n for n, which in zip(base, value.places, strict=True) if which is None]
    if len(free) != len(value.loops) or any(not 0 <= d < len(over) for d in value.loops):
        return "loops do not fit the dimensions"
    if any(over[d] > n for d, n in zip(value.loops, free, strict=True)):
        return "a loop runs beyond the array"
    return ""


def _gather(value: Gather) -> str:
    base, *arrays = value.views
    return _indexed(value, base.shape, tuple(arrays), value.shape) or _same_type(value, base)


def _scatter(value: Scatter) -> str:
    base, source, *arrays = value.views
    if base.shape != value.shape or not base.is_whole:
        return "a base that is not of its shape"
    return _indexed(value, value.shape, tuple(arrays), source.shape) or _same_type(value, base, source)


def _product(value: Product) -> str:
    a, b = value.views
    fits = a.shape[:-1] == value.shape[:-1] and b.shape == (*value.shape[:-2], a.shape[-1], value.shape[-1])
    return _same_type(value, a, b) if fits and len(value.shape) in (2, 3) else "matrices that do not fit"


def _assembly(value: Assembly) -> str:
    for (offset, strides, shape), view in zip(value.parts, value.views, strict=True):
        if shape != view.shape:
            return "a part of another shape than its array"
        if not _within(offset, strides, shape, value.size):
            return "a part beyond the array"
    return _same_type(value, *value.views)


def _scan(value: Scan) -> str:
    return (
        "" if value.views[0].shape == value.shape and 0 <= value.dim < max(1, len(value.shape)) else "shapes do not fit"
    )


def _arg_extreme(value: ArgExtreme) -> str:
    kept = tuple(n for d, n in enumerate(value.views[0].shape) if d != value.dim)
    return "" if kept == value.shape and value.dtype == torch.int64 else "its shape or type does not fit the operand"


def _cholesky(value: Cholesky) -> str:
    (a,) = value.views
    return _same_type(value, a) if a.shape == value.shape and a.shape[-1] == a.shape[-2] else "matrices that do not fit"


def _triangular(value: Triangular) -> str:
    a, b = value.views
    n = value.shape[-2]
    fits = a.shape[-2:] == (n, n) and b.shape[-2:] == value.shape[-2:]
    return _same_type(value, a, b) if fits else "matrices that do not fit"


def _same_type(value: Value, *views: View) -> str:
    return "" if all(v.value.dtype == value.dtype for v in views) else "an operand of another type"


RULES: dict[type[Value], Callable[[Any], str]] = {
    ArgExtreme: _arg_extreme, Assembly: _assembly, Cholesky: _cholesky, Gather: _gather, Iota: _iota, Pointwise: _pointwise,
    Product: _product, Reduction: _reduction, Scan: _scan, Scatter: _scatter, Triangular: _triangular,
}  # fmt: skip


def _schedule(form: Schedule) -> None:
    made: set[Value] = {*form.graph.inputs, *form.graph.constants}
    for kernel in form.kernels:
        if kernel.domain is None and len(kernel.values) != 1:
            raise _broken(kernel.values[0], "a kernel of its own kind with several values", form.graph)
        inside: set[Value] = set()
        for value in kernel.values:
            if domain(value) != kernel.domain:
                raise _broken(value, f"it does not fit loops over {kernel.domain}", form.graph)
            if value in made or value in inside:
                raise _broken(value, "it is made twice", form.graph)
            for view in value.views:
                fused = view.value in inside and kernel.at_hand(view) and not isinstance(view.value, Reduction)
                if view.value not in made and not (fused and not _is_base(view, value)):
                    raise _broken(value, "an operand is read before it is made", form.graph)
            inside.add(value)
        made |= inside
    for value in form.graph.values():
        if value not in made:
            raise _broken(value, "it is never made", form.graph)


def _is_base(view: View, value: Value) -> bool:
    """Whether elements of an operand are read elsewhere than where the loops are."""
    return isinstance(value, Gather) and view is value.operands[0]
