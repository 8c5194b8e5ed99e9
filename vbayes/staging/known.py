"""Finds the tensors of a trace that are known before a step: those that depend only on its arguments, on constants, and on rows that plates draw."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor
from torch.fx import Node

from .record import overwrites

CONSTANT, GIVEN, HELD = range(3)  # depends on constants only; on inputs known before a step; on buffers of modules


class Known:
    """Dependencies in a graph that is being recorded. Each node is analysed once.

    Args:
        root: The module that holds the graph's constants.
        uniforms: The inputs that rows are computed from.
        arguments: The inputs that are known.
        buffers: Inputs that are not known, but seldom change.
    """

    def __init__(
        self, root: torch.nn.Module, uniforms: Node, arguments: Sequence[Node], buffers: Sequence[Node] = ()
    ) -> None:
        self._root, self._uniforms = root, uniforms
        self._inputs = dict.fromkeys(arguments, GIVEN) | dict.fromkeys(buffers, HELD)
        self._hangs: dict[Node, int] = {}  # the strongest dependency; missing if it depends on a draw or a parameter
        self._overwritten: set[Node] = (
            set()
        )  # nodes that can't be evaluated for many steps at once, with those that depend on them
        self._rows: set[Node] = set()
        self._last: Node | None = None

    def given(self, node: Node, rows: Iterable[Node | None] = ()) -> bool | None:
        """True if a node depends on arguments or rows, False if only on constants; None if it depends on anything else.

        Args:
            rows: The nodes of rows that are known before a step.
        """
        self._rows.update(filter(None, rows))
        on = self._on(node)
        return None if on in (None, HELD) or node in self._overwritten else on == GIVEN

    def moves(self, node: Node) -> bool:
        """Whether a node depends on a draw or a parameter, and so differs in each step."""
        return self._on(node) is None

    def behind(self, nodes: Iterable[Node]) -> set[Node]:
        """These nodes and all nodes that they depend on."""
        todo = list(nodes)
        found = set(todo)
        while todo:
            each = todo.pop()
            new = _chain(each, self._uniforms) if each in self._rows else each.all_input_nodes
            new = [one for one in new if one not in found]
            found.update(new)
            todo += [] if each in self._rows else new
        return found

    def _on(self, node: Node) -> int | None:
        each = next(iter(node.graph.nodes)) if self._last is None else self._last.next
        while each.op != "root":
            self._look(each)
            self._last, each = each, each.next
        return GIVEN if node in self._rows else self._hangs.get(node)

    def _look(self, node: Node) -> None:
        inputs = node.all_input_nodes
        if overwrites(node):
            self._spread([_written(node), node])
        elif not self._overwritten.isdisjoint(inputs):
            self._overwritten.add(node)
        if node.op == "placeholder":
            if node in self._inputs:
                self._hangs[node] = self._inputs[node]
        elif node.op == "get_attr":
            held = getattr(self._root, str(node.target))
            if isinstance(held, Tensor) and not held.requires_grad:
                self._hangs[node] = CONSTANT
        elif torch.Tag.nondeterministic_seeded not in getattr(node.target, "tags", ()):
            behind = [GIVEN if each in self._rows else self._hangs.get(each) for each in inputs]
            if None not in behind:
                self._hangs[node] = max(filter(None, behind), default=CONSTANT)

    def _spread(self, todo: list[Node]) -> None:
        """Spreads to all nodes that depend on them, before or afterwards."""
        while todo:
            if (each := todo.pop()) not in self._overwritten:
                self._overwritten.add(each)
                todo += each.users


def _chain(node: Node, end: Node) -> list[Node]:
    """The chain of nodes from one back to another, each computed from the previous one."""
    found = []
    while node is not end:
        node = node.all_input_nodes[0]
        found.append(node)
    return found


def _written(node: Node) -> Node:
    """The node that a write modifies, or of which a node is a view."""
    while node.op == "call_function" and (overwrites(node) or getattr(node.target, "is_view", False)):
        node = node.all_input_nodes[0]
    return node
