"""What a captured graph computes, as a list of values: each a contiguous array made by one kernel or by part of one."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor


class Unsupported(Exception):
    """The graph has an operation that there is no C for."""


@dataclass(eq=False)
class Value:
    """A contiguous array.

    Attributes:
        shape, dtype: Its own.
        operands: What it is made from.
    """

    shape: tuple[int, ...]
    dtype: torch.dtype
    operands: list[View | float | int | bool] = field(default_factory=list)

    @property
    def sources(self) -> list[Value]:
        return [o.value for o in self.operands if isinstance(o, View)]

    @property
    def size(self) -> int:
        return torch.Size(self.shape).numel()


@dataclass(eq=False)
class Given(Value):
    """An input of the program, or a constant of the graph."""

    constant: Tensor | None = None


@dataclass(eq=False)
class Pointwise(Value):
    """Each element an expression in the elements of the operands at the same place.

    Attributes:
        template: C, with a field for each operand.
        types: The type that each operand is cast to.
    """

    template: str = "{0}"
    types: list[torch.dtype] = field(default_factory=list)


@dataclass(eq=False)
class Gather(Value):
    """Elements of the first operand, at places that the others (int64 arrays) name for some of its dimensions.

    Attributes:
        places: For each dimension of the first operand, which operand holds its index; None: the loop's own.
        loops: For each dimension that is not indexed, the dimension of the result that runs over it.
    """

    places: list[int | None] = field(default_factory=list)
    loops: list[int] = field(default_factory=list)


@dataclass(eq=False)
class Counter(Value):
    """start + step · i over its one dimension."""

    start: float = 0
    step: float = 1


@dataclass(eq=False)
class Reduction(Value):
    """The operand summed (or else combined) over some of its dimensions.

    Attributes:
        dims: Of the operand, that are gone from the shape.
        kind: "sum", "prod", "amax", "amin", "any", "all".
    """

    dims: tuple[int, ...] = ()
    kind: str = "sum"


@dataclass(eq=False)
class Product(Value):
    """(batch..., m, k) @ (batch..., k, n), of matrices or stacks of them."""


@dataclass(eq=False)
class Assembly(Value):
    """An array put together: each operand is written to a strided part of it, in turn.

    Attributes:
        parts: Of the array, as (offset, strides, shape).
    """

    parts: list[tuple[int, tuple[int, ...], tuple[int, ...]]] = field(default_factory=list)


@dataclass(eq=False)
class Scatter(Value):
    """The first operand, with the second added or put at the places that the others name; see `Gather`."""

    places: list[int | None] = field(default_factory=list)
    loops: list[int] = field(default_factory=list)
    accumulate: bool = True


@dataclass(eq=False)
class Scan(Value):
    """The running sum of the operand along one dimension."""

    dim: int = 0


@dataclass(eq=False)
class Extreme(Value):
    """Where along one dimension the operand is largest (or smallest), for the first time."""

    dim: int = 0
    kind: str = "amax"


@dataclass(eq=False)
class Cholesky(Value):
    """The lower factor of each matrix of a stack."""


@dataclass(eq=False)
class Triangular(Value):
    """The solution X of A X = B for each triangular A of a stack and its B."""

    upper: bool = False
    unit: bool = False


@dataclass(frozen=True, eq=False)
class View:
    """How a value is read: a tensor without storage has the shape, strides and offset."""

    value: Value
    meta: Tensor

    @classmethod
    def whole(cls, value: Value) -> View:
        return cls(value, torch.empty(value.shape, dtype=value.dtype, device="meta"))

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(self.meta.shape)

    @property
    def strides(self) -> tuple[int, ...]:
        return tuple(0 if n == 1 else s for n, s in zip(self.meta.shape, self.meta.stride(), strict=True))

    @property
    def offset(self) -> int:
        return int(self.meta.storage_offset())

    @property
    def is_whole(self) -> bool:
        """Whether it reads the value from first to last, in its order."""
        return self.offset == 0 and self.meta.is_contiguous() and self.meta.numel() == self.value.size

    def expand(self, shape: Any) -> View:
        return View(self.value, self.meta.expand(shape))
