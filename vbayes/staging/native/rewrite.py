"""Replaces some of the values of a graph; the others are then computed from the replacements."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace

from torch import Tensor

from .ir import Graph, Input, Operand, Value, View

Turn = Callable[[Tensor], Tensor]
"""How a value was read (a tensor without storage) → how the one in its place is read for the same elements."""


class Rewriting:
    """Values one after the other, each after what it needs.

    Attributes:
        made: Value → what is there in its place: itself, the same on other operands, or another one.
    """

    def __init__(self) -> None:
        self.made: dict[Value, Value] = {}
        self._turns: dict[Value, Turn] = {}

    def of(self, view: View) -> View:
        """The same elements in the new graph."""
        turn = self._turns.get(view.value)
        return View(self.made[view.value], turn(view.meta) if turn else view.meta)

    def keep(self, value: Value) -> None:
        changed = any(self.made[s] is not s or s in self._turns for s in value.sources)
        operands: Iterable[Operand] = (self.of(o) if isinstance(o, View) else o for o in value.operands)
        self.made[value] = value.reading(operands) if changed else value

    def put(self, value: Value, new: Value, turn: Turn | None = None) -> None:
        self.made[value] = new
        if turn:
            self._turns[value] = turn

    def graph(self, before: Graph, constants: Iterable[Input] = ()) -> Graph:
        """That of which all values are made; an output stays one of its own."""
        return replace(
            before, constants=(*before.constants, *constants), outputs=tuple(self.made[v] for v in before.outputs)
        )
