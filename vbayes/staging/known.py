"""Which tensors of a trace are known before a step: they hang on its arguments, on constants, and on rows that plates draw, and on nothing else."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor
from torch.fx import Node

from .record import overwrites


class Known:
    """Of a graph under way. Each of its nodes is looked at once, however often one asks.

    Args:
        root: The module that holds the graph's constants.
        uniforms: What rows are made of.
        arguments: The inputs that are known.
    """

    def __init__(self, root: torch.nn.Module, uniforms: Node, arguments: Sequence[Node]) -> None:
        self._root, self._uniforms, self._arguments = root, uniforms, frozenset(arguments)
        self._given: dict[Node, bool] = {}  # whether what is known hangs on more than constants
        self._overwritten: set[Node] = set()  # or hangs on what is: it could not be asked for many steps at once
        self._rows: set[Node] = set()
        self._last: Node | None = None

    def given(self, node: Node, rows: Iterable[Node | None] = ()) -> bool | None:
        """Whether a node hangs on arguments or rows, and not on constants alone; None where it hangs on anything else.

        Args:
            rows: The nodes of rows that are known before a step.
        """
        self._rows.update(filter(None, rows))
        each = next(iter(node.graph.nodes)) if self._last is None else self._last.next
        while each.op != "root":
            self._look(each)
            self._last, each = each, each.next
        return None if node in self._overwritten else node in self._rows or self._given.get(node)

    def behind(self, nodes: Iterable[Node]) -> set[Node]:
        """These and all that they hang on."""
        todo = list(nodes)
        found = set(todo)
        while todo:
            each = todo.pop()
            new = _chain(each, self._uniforms) if each in self._rows else each.all_input_nodes
            new = [one for one in new if one not in found]
            found.update(new)
            todo += [] if each in self._rows else new
        return found

    def _look(self, node: Node) -> None:
        inputs = node.all_input_nodes
        if overwrites(node):
            self._spread([_written(node), node])
        elif not self._overwritten.isdisjoint(inputs):
            self._overwritten.add(node)
        if node.op == "placeholder":
            if node in self._arguments:
                self._given[node] = True
        elif node.op == "get_attr":
            held = getattr(self._root, str(node.target))
            if isinstance(held, Tensor) and not held.requires_grad:
                self._given[node] = False
        elif torch.Tag.nondeterministic_seeded not in getattr(node.target, "tags", ()):
            hangs = [each in self._rows or self._given.get(each) for each in inputs]
            if None not in hangs:
                self._given[node] = any(hangs)

    def _spread(self, todo: list[Node]) -> None:
        """To all that was made of them, before or since."""
        while todo:
            if (each := todo.pop()) not in self._overwritten:
                self._overwritten.add(each)
                todo += each.users


def _chain(node: Node, end: Node) -> list[Node]:
    """The nodes behind one back to another, each made of the one before."""
    found = []
    while node is not end:
        node = node.all_input_nodes[0]
        found.append(node)
    return found


def _written(node: Node) -> Node:
    """What a node that writes has written into, or a view is of."""
    while node.op == "call_function" and (overwrites(node) or getattr(node.target, "is_view", False)):
        node = node.all_input_nodes[0]
    return node
