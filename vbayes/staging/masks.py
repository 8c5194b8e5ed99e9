"""Places that a mask names: told as numbers where the mask is known beforehand, since programs have fixed shapes."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.fx import GraphModule, Node
from torch.fx.node import map_arg

from .native import Unsupported, called

READS = ("aten::index", "aten::_unsafe_index")
WRITES = ("aten::index_put", "aten::index_put_", "aten::_unsafe_index_put")


class ShapeOfValues(Unsupported):
    """A result whose shape depends on values, as that of an index by a mask of the data does."""


def with_known_places(module: GraphModule) -> GraphModule:
    """Puts numbers in the place of masks that depend on no input: those of a matrix's lower triangle, those that a model has written down.

    Such a mask is a constant, or made of constants and `torch.arange`. The same graph, changed.
    """
    known: dict[Node, Tensor | None] = {}
    found = 0
    for node in list(module.graph.nodes):
        if not (masks := _masks(node, module)):
            continue
        indices: list[Any] = []
        for index in node.args[1]:
            mask = _known(index, module, known) if index in masks else None
            if mask is None:
                indices.append(index)
                continue
            for numbers in mask.nonzero(as_tuple=True):
                name, found = f"_places_{found}", found + 1
                module.register_buffer(name, numbers)
                with module.graph.inserting_before(node):
                    indices.append(module.graph.get_attr(name))
        node.update_arg(1, indices)
    if found:
        module.recompile()
    return module


def without_unread_shapes(module: GraphModule) -> GraphModule:
    """Drops operations whose result's shape hangs on values where nobody reads it. The same graph, changed."""
    unread = [
        n for n in module.graph.nodes if not n.users and torch.Tag.dynamic_output_shape in getattr(n.target, "tags", ())
    ]
    for node in unread:
        module.graph.erase_node(node)
    if unread:
        module.recompile()
    return module


def require_fixed_shapes(module: GraphModule) -> None:
    """Raises `ShapeOfValues` where the shape of a result depends on values, before anything is made of it."""
    for node in module.graph.nodes:
        if torch.Tag.dynamic_output_shape in getattr(node.target, "tags", ()) and (
            _name(node) not in READS or _masks(node, module)
        ):
            raise ShapeOfValues(f"{called(node)} where its result's shape depends on values, as that of x[x > 0] does")


def _masks(node: Node, module: GraphModule) -> list[Node]:
    """The masks among the indices of an operation that reads or writes at them; one that fills its places with one number needs none."""
    if _name(node) not in (*READS, *WRITES):
        return []
    indices: Any = node.args[1]
    found = [index for index in indices if isinstance(index, Node) and _noted(index, module).dtype == torch.bool]
    fills = _name(node) in WRITES and len(indices) == 1 and _noted(node.args[2], module).numel() == 1
    return [] if fills else found


def _noted(node: Any, module: GraphModule) -> Any:
    """A tensor of the type and shape of what a node makes."""
    return getattr(module, node.target) if node.op == "get_attr" else node.meta["val"]


def _name(node: Node) -> str:
    return str(getattr(getattr(node.target, "_schema", None), "name", ""))


def _known(node: Node, module: GraphModule, known: dict[Node, Tensor | None]) -> Tensor | None:
    """What a node makes, if that depends on no input and no draw."""
    if node not in known:
        known[node] = None
        if node.op == "get_attr":
            known[node] = getattr(module, str(node.target))
        elif node.op == "call_function" and torch.Tag.nondeterministic_seeded not in getattr(node.target, "tags", ()):
            made = {one: _known(one, module, known) for one in node.all_input_nodes}
            if all(value is not None for value in made.values()):
                args, kwargs = map_arg((node.args, node.kwargs), made.__getitem__)
                known[node] = node.target(*args, **kwargs)  # type: ignore[operator]
    return known[node]
