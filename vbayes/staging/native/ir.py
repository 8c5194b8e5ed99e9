"""The intermediate form: what a program computes, as values, each a contiguous array that is made from others.

Values are immutable and equal only to themselves: a pass that changes something returns new ones. What later passes decide, the
loops in which values are computed and where they are stored, is kept separately from the graph: see `schedule` and `memory`.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TypeVar

import torch
from torch import Tensor

from .ops import Code, Combine, Op

V = TypeVar("V", bound="Value")


class Unsupported(Exception):
    """The graph has an operation for which there is no C."""


@dataclass(frozen=True, eq=False)
class View:
    """How a value is read: a tensor without storage has the shape, strides and offset."""

    value: Value
    meta: Tensor

    @classmethod
    def whole(cls, value: Value) -> View:
        return cls(value, torch.empty(value.shape, dtype=value.dtype, device="meta"))

    @classmethod
    def shaped(cls, value: Value, shape: Iterable[int]) -> View:
        """A view of the whole value, with dimensions of size 1 added or removed."""
        return cls(value, cls.whole(value).meta.view(tuple(shape)))

    @cached_property
    def shape(self) -> tuple[int, ...]:
        return tuple(self.meta.shape)

    @cached_property
    def strides(self) -> tuple[int, ...]:
        """Strides, with zero for dimensions of size 1, so that loops that can run together are recognised."""
        return tuple(0 if n == 1 else s for n, s in zip(self.shape, self.meta.stride(), strict=True))

    @cached_property
    def offset(self) -> int:
        return int(self.meta.storage_offset())

    @cached_property
    def is_whole(self) -> bool:
        """Whether it reads the value from first to last, in its order."""
        return self.offset == 0 and self.meta.is_contiguous() and self.meta.numel() == self.value.size

    def expand(self, shape: Iterable[int]) -> View:
        return View(self.value, self.meta.expand(tuple(shape)))

    def transpose(self) -> View:
        """Its matrices turned."""
        return View(self.value, self.meta.transpose(-1, -2))


Operand = View | float | int | bool


@dataclass(frozen=True, eq=False)
class Value:
    """A contiguous array.

    Attributes:
        shape, dtype: Its own.
        operands: What it is made from: views of other values, and numbers.
    """

    shape: tuple[int, ...]
    dtype: torch.dtype
    operands: tuple[Operand, ...] = ()

    @cached_property
    def views(self) -> tuple[View, ...]:
        """The operands that are arrays."""
        return tuple(o for o in self.operands if isinstance(o, View))

    @cached_property
    def sources(self) -> tuple[Value, ...]:
        return tuple(view.value for view in self.views)

    @cached_property
    def size(self) -> int:
        return math.prod(self.shape)

    def reading(self: V, operands: Iterable[Operand]) -> V:
        """A new value: the same operation on other operands."""
        return replace(self, operands=tuple(operands))


@dataclass(frozen=True, eq=False)
class Input(Value):
    """An input array, or a constant of the program."""

    constant: Tensor | None = None


@dataclass(frozen=True, eq=False, kw_only=True)
class Pointwise(Value):
    """Each element an operation on the elements of the operands at the same place.

    Attributes:
        op: The operation.
        types: The type that each operand is cast to.
    """

    op: Op
    types: tuple[torch.dtype, ...]

    @property
    def code(self) -> Code:
        return self.op.code(self.dtype)


@dataclass(frozen=True, eq=False, kw_only=True)
class Gather(Value):
    """Elements of the first operand, at places that the others (arrays of integers) name for some of its dimensions.

    Attributes:
        places: For each dimension of the first operand, which of the other operands holds its index; None: the loop's own.
        loops: For each dimension that is not indexed, the dimension of the result that runs over it.
    """

    places: tuple[int | None, ...]
    loops: tuple[int, ...]


@dataclass(frozen=True, eq=False, kw_only=True)
class Scatter(Value):
    """The first operand, with the second one added or written at the places given by the others; see `Gather`.

    Attributes:
        accumulate: Added, not put.
    """

    places: tuple[int | None, ...]
    loops: tuple[int, ...]
    accumulate: bool


@dataclass(frozen=True, eq=False, kw_only=True)
class Iota(Value):
    """start + step · i over its one dimension."""

    start: float = 0
    step: float = 1


@dataclass(frozen=True, eq=False, kw_only=True)
class Reduction(Value):
    """The operand summed (or else combined) over some of its dimensions.

    Attributes:
        dims: Of the operand, that are gone from the shape; ascending.
        by: What combines two numbers.
    """

    dims: tuple[int, ...]
    by: Combine


@dataclass(frozen=True, eq=False)
class Product(Value):
    """(batch..., m, k) @ (batch..., k, n), of matrices or a stack of them."""


Part = tuple[int, tuple[int, ...], tuple[int, ...]]
"""Offset, strides and shape."""


@dataclass(frozen=True, eq=False, kw_only=True)
class Assembly(Value):
    """An array put together: each operand is written to a strided part of it, in turn.

    Attributes:
        parts: Of the array.
    """

    parts: tuple[Part, ...]


@dataclass(frozen=True, eq=False, kw_only=True)
class Scan(Value):
    """The running sum of the operand along one dimension."""

    dim: int


@dataclass(frozen=True, eq=False, kw_only=True)
class ArgExtreme(Value):
    """Where along one dimension the operand is largest (or else smallest), for the first time; NaN counts as either."""

    dim: int
    largest: bool


@dataclass(frozen=True, eq=False)
class Cholesky(Value):
    """The lower factor of each matrix of a stack; NaN on the diagonal of one that has none."""


@dataclass(frozen=True, eq=False, kw_only=True)
class Triangular(Value):
    """The solution X of A X = B for each triangular A of a stack and its B.

    Attributes:
        upper: The other triangle of A is not read.
        unit: The diagonal of A counts as ones.
    """

    upper: bool
    unit: bool


@dataclass(frozen=True, eq=False)
class Graph:
    """A program, represented by the values that its outputs are computed from.

    Attributes:
        inputs: Arrays from the caller.
        constants: Further input arrays, the same in each call.
        outputs: Each an array of its own.
        states: The first so many inputs are overwritten with the first as many outputs.
    """

    inputs: tuple[Input, ...]
    constants: tuple[Input, ...]
    outputs: tuple[Value, ...]
    states: int = 0

    def values(self) -> list[Value]:
        """Everything that the outputs need, each after what it needs itself."""
        order: dict[Value, None] = {}
        stack: list[tuple[Value, bool]] = [(v, False) for v in reversed(self.outputs)]
        while stack:
            value, opened = stack.pop()
            if value in order:
                continue
            if opened:
                order[value] = None
            else:
                stack.append((value, True))
                stack.extend((s, False) for s in reversed(value.sources) if s not in order)
        return list(order)
