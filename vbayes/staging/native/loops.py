"""C for a loop nest and everything computed in it: pointwise values, and reductions over its loops."""

from __future__ import annotations

from collections.abc import Set
from typing import Any

import torch

from .addresses import collapse, index, indexed, loop_variables
from .arrays import Names
from .c_numbers import TYPES, literal, start
from .ir import Gather, Iota, Operand, Pointwise, Reduction, Value, View
from .schedule import Domain, Kernel, same_place, splits

SHARED = 2**23
"""Number of elements with little arithmetic from which two threads share a loop, about 300 µs. On a busy machine, the second thread starts milliseconds late."""


class Loops:
    """One loop nest over a domain.

    Args:
        kernel: What is made in it.
        domain: Of the kernel.
        names: What arrays are called.
        stored: The values that are written to memory.
    """

    def __init__(self, kernel: Kernel, domain: Domain, names: Names, stored: Set[Value]) -> None:
        self.kernel, self.names, self.stored = kernel, names, stored
        self.domain = domain
        strides = self._accesses()
        self.sizes, collapsed = collapse(domain, list(strides.values()))
        self.strides = dict(zip(strides, collapsed, strict=True))
        self.depth = len(self.sizes)
        # Lines of C: before the loop at each depth, after it, in the innermost one.
        self._before: list[list[str]] = [[] for _ in range(self.depth + 1)]
        self._after: list[list[str]] = [[] for _ in range(self.depth + 1)]
        self._inner: list[str] = []
        self._clauses: list[str] = []  # for OpenMP, of the innermost loop
        self._at_hand: dict[Value, str] = {}  # the variables that hold elements
        self._held: dict[str, str] = {}  # those of all loops that hold single numbers

    def _accesses(self) -> dict[Any, tuple[int, ...]]:
        """Everything that is read or written, and how far apart its elements are along each loop."""
        found: dict[Any, tuple[int, ...]] = {}
        for value in self.kernel.values:
            views = value.views
            if isinstance(value, Reduction):
                own = iter(View.whole(value).strides)
                shape = views[0].shape
                each = [0 if d in value.dims else next(own) for d in range(len(shape))]
                found[value] = tuple(s for s, n in zip(each, shape, strict=True) if n != 1)
            else:
                found[value] = _in_loops(View.whole(value))
            if isinstance(value, Gather):
                found[value, "loops"] = tuple(10**9 + 7 * d for d in range(len(self.domain)))  # keeps all loops apart
                views = views[1:]
            for view in views:
                found[view] = _in_loops(view)
        return found

    def text(self) -> str:
        """The body of the kernel's function."""
        stores = []
        for i, value in enumerate(self.kernel.values):
            if isinstance(value, Reduction):
                self._reduce(i, value)
                continue
            self._inner.append(f"const {TYPES[value.dtype]} x{i} = {self._expression(value)};")
            self._at_hand[value] = f"x{i}"
            if value in self.stored:
                stores.append(f"{self._element(value, self.strides[value])} = x{i};")
        self._inner += stores  # last: some take the place of what was read
        return self._nest()

    def _element(self, value: Value, strides: tuple[int, ...], offset: int = 0) -> str:
        return f"{self.names[value]}[{index(offset, strides)}]"

    def _reduce(self, i: int, value: Reduction) -> None:
        """A running total in the array itself, or in variables of the loops."""
        by, first = value.by, start(value.by, value.dtype)
        x = self._load(value.operands[0], value.dtype)
        strides = self.strides[value]
        tail = next((d for d in range(self.depth, 0, -1) if strides[d - 1] != 0), 0)  # loops from here on are summed
        if any(s == 0 for s in strides[:tail]):  # no: some loop outside of a kept one is summed
            self._before[0].append(f"for (long r = 0; r < {value.size}; r++) {self.names[value]}[r] = {first};")
            self._inner.append(by.code.format(a=self._element(value, strides), x=x) + ";")
            return
        # One total, or one for each of several nested loops, so that long sums lose fewer digits.
        levels = range(tail, max(tail + 1, self.depth))
        for level in levels:
            self._before[level].append(f"{TYPES[value.dtype]} s{i}_{level} = {first};")
        self._inner.append(by.code.format(a=f"s{i}_{levels[-1]}", x=x) + ";")
        for level in reversed(levels[1:]):
            self._after[level].append(by.code.format(a=f"s{i}_{level - 1}", x=f"s{i}_{level}") + ";")
        self._after[tail].append(f"{self._element(value, strides[:tail])} = s{i}_{tail};")
        if self.depth and levels[-1] == self.depth - 1 and not by.is_extreme:
            self._clauses.append(f"reduction({by.openmp}:s{i}_{self.depth - 1})")

    def _nest(self) -> str:
        lines: list[str] = []
        for level, size in enumerate(self.sizes):
            lines += self._before[level]
            if pragma := self._pragma(level):
                lines.append("#pragma omp " + " ".join(pragma))
            lines.append(f"for (long i{level} = 0; i{level} < {size}; i{level}++) {{")
        lines += self._before[self.depth] + self._inner + self._after[self.depth]
        for level in reversed(range(self.depth)):
            lines += ["}", *self._after[level]]
        return "\n".join("  " + line for line in lines)

    def _pragma(self, level: int) -> list[str]:
        """The OpenMP pragma for a loop; empty if there is none.

        When OpenMP combines lanes or threads, a maximum loses a NaN that only one of them met; and more than two
        threads add up their sums in no fixed order.
        """
        reductions = {i: v for i, v in enumerate(self.kernel.values) if isinstance(v, Reduction)}
        extremes = any(v.by.is_extreme for v in reductions.values())
        to_one = {i: v for i, v in reductions.items() if not any(self.strides[v])}
        threads = self.kernel.work >= SHARED and all(map(splits, reductions.values()))
        if level == 0 and threads and not any(v.dtype.is_floating_point for v in to_one.values()):
            if self.depth > 1:
                return ["parallel for", *(f"reduction({v.by.openmp}:s{i}_0)" for i, v in to_one.items())]
            return ["parallel for", *(["simd"] if not extremes else []), *self._clauses]
        if level == self.depth - 1 and not extremes:
            return ["simd", *self._clauses]
        return []

    def _expression(self, value: Value) -> str:
        """An element of a value."""
        if isinstance(value, Iota):
            first, step = (literal(n, value.dtype) for n in (value.start, value.step))
            return f"{first} + {step} * ({TYPES[value.dtype]})({index(0, self.strides[value])})"
        if isinstance(value, Gather):
            base, *places = value.views
            variables = loop_variables(value.shape)
            where = indexed(value, base, variables, lambda i: self._load(places[i], torch.int64))
            return f"{self.names[base.value]}[{where}]"
        assert isinstance(value, Pointwise)
        operands = [self._load(o, t) for o, t in zip(value.operands, value.types, strict=True)]
        return value.code.text.format(*operands, f="f" if value.types[0] == torch.float32 else "")

    def _load(self, operand: Operand, dtype: torch.dtype) -> str:
        """An operand's element, cast."""
        if not isinstance(operand, View):
            return literal(operand, dtype)
        if operand.value in self._at_hand and same_place(operand, self.domain):
            text = self._at_hand[operand.value]
        else:
            text = self._element(operand.value, self.strides[operand], operand.offset)
            if self.depth and operand.value.size and not any(self.strides[operand]):
                text = self._hold(operand.value, text)
        if operand.value.dtype == dtype:
            return text
        if dtype == torch.bool:
            return f"({text} != 0)"
        return f"(({TYPES[dtype]}){text})"

    def _hold(self, value: Value, element: str) -> str:
        """A number that is the same in all loops, read before them: reading it in one branch of a choice would prevent gcc from vectorising."""
        if element not in self._held:
            self._held[element] = f"c{len(self._held)}"
            self._before[0].append(f"const {TYPES[value.dtype]} {self._held[element]} = {element};")
        return self._held[element]


def _in_loops(view: View) -> tuple[int, ...]:
    """Strides of the dimensions that are looped over."""
    return tuple(s for s, n in zip(view.strides, view.shape, strict=True) if n != 1)
