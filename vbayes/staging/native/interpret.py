"""Runs the intermediate form by NumPy: slow, simple, and independent of the C. It is used to compare passes with each other."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from numpy.lib.stride_tricks import as_strided
from torch import Tensor

from .ir import (
    ArgExtreme,
    Assembly,
    Cholesky,
    Gather,
    Graph,
    Iota,
    Operand,
    Pointwise,
    Product,
    Reduction,
    Scan,
    Scatter,
    Triangular,
    Value,
    View,
)  # fmt: skip
from .memory import Layout, Place
from .schedule import Schedule

Array = np.ndarray[Any, Any]
Read = Callable[[View], Array]


def interpret(form: Graph | Schedule | Layout, inputs: Sequence[Tensor]) -> list[Tensor]:
    """The outputs of a program, states among them.

    Args:
        form: After any of the passes: as a graph, value after value; as a schedule, in the order of its kernels; with a
            layout, from and to the memory that it names.

    Raises:
        IndexError: An index is out of the range of its dimension.
        KeyError: A value is read before it is made.
    """
    graph = form if isinstance(form, Graph) else form.graph if isinstance(form, Schedule) else form.schedule.graph
    given = [t.detach().numpy().copy(order="C").reshape(-1) for t in inputs]
    constants = [c.constant.numpy().reshape(-1) for c in graph.constants if c.constant is not None]
    start: dict[Value, Array] = dict(zip((*graph.inputs, *graph.constants), (*given, *constants), strict=True))
    with np.errstate(all="ignore"):
        if isinstance(form, Layout):
            arrays = _in_memory(form, start)
        else:
            order = graph.values() if isinstance(form, Graph) else [v for k in form.kernels for v in k.values]
            arrays = dict(start)
            for value in order:
                if value not in arrays:
                    arrays[value] = make(value, lambda view: _seen(view, arrays[view.value]))
    return [torch.from_numpy(arrays[v].reshape(v.shape)) for v in graph.outputs]


def _in_memory(layout: Layout, start: dict[Value, Array]) -> dict[Value, Array]:
    """The outputs, computed with the memory layout; values that are not stored are lost after their kernel."""
    graph, work = layout.schedule.graph, np.full(layout.work, 0xA5, dtype=np.uint8)
    caller = {Place("in", i): array.copy() for i, array in enumerate(start.values())}
    looked_for = [Place("in", i) for i in range(graph.states)]
    for number, value in enumerate(graph.outputs[graph.states :]):
        looked_for.append(Place("out", number))
        caller[looked_for[-1]] = np.zeros(value.size, numpy_type(value.dtype))

    def array(value: Value) -> Array:
        place, dtype = layout.places[value], numpy_type(value.dtype)
        if place.area == "work":
            return work[place.at : place.at + value.size * dtype.itemsize].view(dtype)
        return caller[place]

    for kernel in layout.schedule.kernels:
        here: dict[Value, Array] = {}

        def read(view: View, here: dict[Value, Array] = here) -> Array:
            return _seen(view, here[view.value] if view.value in here else array(view.value))

        for value in kernel.values:
            here[value] = make(value, read)
        for value in kernel.values:
            if value in layout.stored:
                array(value)[:] = here[value]
    for new, old in layout.moves:
        array(old)[:] = array(new)
    return dict(zip(graph.outputs, (caller[place] for place in looked_for), strict=True))


def _seen(view: View, flat: Array) -> Array:
    strides = [s * flat.itemsize for s in view.meta.stride()]
    return as_strided(flat[view.offset :], view.shape, strides, writeable=False)


@functools.cache
def numpy_type(dtype: torch.dtype) -> np.dtype[Any]:
    return torch.empty(0, dtype=dtype).numpy().dtype


def make(value: Value, read: Read) -> Array:
    """A value, flat, from what it reads."""
    made = np.broadcast_to(MAKERS[type(value)](value, read), value.shape)
    return np.array(made, dtype=numpy_type(value.dtype), order="C").reshape(-1)


def _pointwise(value: Pointwise, read: Read) -> Array:
    operands = [_cast(o, t, read) for o, t in zip(value.operands, value.types, strict=True)]
    return np.asarray(value.op.numpy(*operands))


def _cast(operand: Operand, dtype: torch.dtype, read: Read) -> Array:
    if isinstance(operand, View):
        return read(operand).astype(numpy_type(dtype))
    return np.asarray(operand if dtype.is_floating_point else int(operand), dtype=numpy_type(dtype))


def _iota(value: Iota, read: Read) -> Array:
    return value.start + value.step * np.arange(value.size)


def _reduction(value: Reduction, read: Read) -> Array:
    return np.asarray(value.by.numpy(_cast(value.operands[0], value.dtype, read), axis=value.dims))


def _places(value: Gather | Scatter, base: Array, arrays: Sequence[Array], over: tuple[int, ...]) -> tuple[Array, ...]:
    """Indices into the base for each place of the loops."""
    free, found = iter(value.loops), []
    for size, which in zip(base.shape, value.places, strict=True):
        if which is None:
            d = next(free)
            found.append(np.arange(over[d]).reshape([-1 if d == e else 1 for e in range(len(over))]))
        else:
            index = np.where(arrays[which] < 0, arrays[which] + size, arrays[which])
            if ((index < 0) | (index >= size)).any():
                raise IndexError("an index is out of the range of its dimension")
            found.append(index)
    return tuple(found)


def _gather(value: Gather, read: Read) -> Array:
    base, *arrays = map(read, value.views)
    return np.asarray(base[_places(value, base, arrays, value.shape)])


def _scatter(value: Scatter, read: Read) -> Array:
    base, source, *arrays = map(read, value.views)
    made, where = base.copy(), _places(value, base, arrays, source.shape)
    if value.accumulate:
        np.add.at(made, where, source)
    else:
        made[where] = source
    return made


def _product(value: Product, read: Read) -> Array:
    a, b = map(read, value.views)
    return np.matmul(a, b)


def _assembly(value: Assembly, read: Read) -> Array:
    made = np.zeros(value.size, numpy_type(value.dtype))
    for (offset, strides, shape), view in zip(value.parts, value.views, strict=True):
        as_strided(made[offset:], shape, [s * made.itemsize for s in strides])[...] = read(view)
    return made.reshape(value.shape)


def _scan(value: Scan, read: Read) -> Array:
    x = _cast(value.operands[0], value.dtype, read)
    return np.cumsum(x, axis=value.dim) if value.shape else x


def _arg_extreme(value: ArgExtreme, read: Read) -> Array:
    x = read(value.views[0])
    search = np.argmax if value.largest else np.argmin
    return np.asarray(search(x, axis=value.dim) if x.shape else 0)


def _cholesky(value: Cholesky, read: Read) -> Array:
    a = read(value.views[0])
    made = np.zeros(value.shape, a.dtype)
    for j in range(a.shape[-1]):
        column = a[..., j:, j] - np.einsum("...il,...l->...i", made[..., j:, :j], made[..., j, :j])
        diagonal = np.sqrt(column[..., :1])
        made[..., j:, j] = np.concatenate([diagonal, column[..., 1:] / diagonal], axis=-1)
    return made


def _triangular(value: Triangular, read: Read) -> Array:
    a, b = map(read, value.views)
    n = value.shape[-2]
    made = np.zeros(value.shape, b.dtype)
    for r in reversed(range(n)) if value.upper else range(n):
        known = slice(r + 1, n) if value.upper else slice(0, r)
        row = b[..., r, :] - np.einsum("...l,...lj->...j", a[..., r, known], made[..., known, :])
        made[..., r, :] = row if value.unit else row / a[..., r, r, None]
    return made


MAKERS: dict[type[Value], Callable[..., Array]] = {
    ArgExtreme: _arg_extreme, Assembly: _assembly, Cholesky: _cholesky, Gather: _gather, Iota: _iota, Pointwise: _pointwise,
    Product: _product, Reduction: _reduction, Scan: _scan, Scatter: _scatter, Triangular: _triangular,
}  # fmt: skip
