"""Includes a captured graph in another one that is being traced, by copying its operations instead of running and tracing them again.

Tracing runs each operation through Python several times; a captured program has thousands of operations, most of which are unchanged by it. Only operations that must be
decomposed are traced, once for all operations of the same kind and shapes, such as those of the time steps of a loop.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.fx import Graph, GraphModule, Node, Proxy
from torch.fx.experimental.proxy_tensor import (
    disable_proxy_modes_tracing,
    get_proxy_mode,
    track_tensor_tree,
)
from torch.fx.node import map_arg
from torch.utils._pytree import tree_flatten, tree_unflatten

from .masks import with_known_places
from .record import Recording, node_of, overwrites, record, recording, without_numbers

Table = Mapping[Any, Callable[..., Any]]
_under_way: list[tuple[Table, bool]] = []


class Overwrites(Exception):
    """A graph overwrites tensors, and so would a graph that includes it."""


@contextmanager
def copying(table: Table, *, overwriting: bool = False) -> Iterator[None]:
    """Context in which `inlined` graphs are copied into the one being traced, with all operations decomposed that are in a table.

    Args:
        overwriting: Whether to copy operations that overwrite; otherwise they raise `Overwrites`.
    """
    _under_way.append((table, overwriting))
    try:
        yield
    finally:
        _under_way.pop()


def inlined(graph: Any) -> Callable[..., Any]:
    """Called like a captured graph; within `copying`, the graph becomes part of the one being traced."""

    def called(*args: Any) -> Any:
        mode = get_proxy_mode()
        if not _under_way or mode is None or not isinstance(graph, GraphModule):
            return graph(*args)
        leaves, _ = tree_flatten(args)
        nodes = [_node(leaf) for leaf in leaves]
        table, overwriting = _under_way[-1]
        pure = graph if overwriting else _without_overwriting(graph, args)
        flat = decomposed(pure, table, overwriting) if None not in nodes else None
        places = [] if flat is None else flat.graph.find_nodes(op="placeholder")
        if flat is None or len(places) != len(nodes):
            return graph(*args)
        return _copied(graph, flat, args, nodes, mode)  # type: ignore[arg-type]

    return called


def _without_overwriting(graph: GraphModule, args: Any) -> GraphModule:
    """The same in operations that make new tensors; recorded once, on some arguments."""
    if not any(map(overwrites, graph.graph.nodes)):
        return graph
    held = graph.__dict__
    if "_pure" not in held:
        with disable_proxy_modes_tracing():
            held["_pure"] = with_known_places(record(torch.func.functionalize(graph, remove="mutations"), *args))
    return held["_pure"]  # type: ignore[no-any-return]


def _node(leaf: Any) -> Node | None:
    """The node of a traced tensor; None if the tensor is mapped over, or unknown."""
    if not isinstance(leaf, Tensor) or torch._C._functorch.is_functorch_wrapped_tensor(leaf):
        return None
    return node_of(leaf)


def _copied(graph: GraphModule, flat: GraphModule, args: Any, nodes: list[Node], mode: Any) -> Any:
    tracer = mode.tracer
    with disable_proxy_modes_tracing():
        made = graph(*args)
    known = dict(zip(flat.graph.find_nodes(op="placeholder"), nodes, strict=True))
    for node in flat.graph.nodes:
        if node.op == "output":
            outputs = [known.get(each) if isinstance(each, Node) else None for each in node.args[0]]
        elif node not in known:
            known[node] = _copy(node, tracer.graph, known, flat, tracer.root)
    inputs = {id(leaf) for leaf in tree_flatten(args)[0]}
    for tensor, node in zip(tree_flatten(made)[0], outputs, strict=True):
        if isinstance(tensor, Tensor) and node is not None and id(tensor) not in inputs:
            if isinstance(mode, Recording):
                mode.note(tensor, node)
            else:
                track_tensor_tree(tensor, Proxy(node, tracer), constant=None, tracer=tracer)
    return made


def _copy(node: Node, graph: Graph, known: dict[Node, Node], source: Any, root: Any) -> Node:
    copied = graph.node_copy(node, known.__getitem__)
    if node.op == "get_attr":
        name, held = f"_inlined_{len(vars(root)) + len(root._buffers)}", getattr(source, str(node.target))
        root.register_buffer(name, held) if isinstance(held, Tensor) else setattr(root, name, held)
        copied.target = name
    return copied


def decomposed(graph: GraphModule, table: Table, overwriting: bool = False) -> GraphModule | None:
    """Decomposes the operations of a captured graph that are in a table; None if that needs a trace of the whole graph.

    Raises:
        Overwrites: The graph overwrites tensors, and `overwriting` does not allow it.
    """
    held = graph.__dict__.setdefault("_decomposed", {})
    key = frozenset(table), overwriting
    if key not in held:
        try:
            part = _decompose(_Part(graph.graph, graph), table, overwriting, {})
            held[key] = part and GraphModule(part.root, part.graph)
        except Overwrites as error:
            held[key] = error
    if isinstance(held[key], Overwrites):
        raise Overwrites
    return held[key]  # type: ignore[no-any-return]


@dataclass(frozen=True)
class _Part:
    """A graph, and the module that holds its constants."""

    graph: Graph
    root: torch.nn.Module


def _decompose(part: _Part, table: Table, overwriting: bool, rules: dict[Any, _Part | None]) -> _Part | None:
    root, made = torch.nn.Module(), Graph()
    known: dict[Node, Any] = {}
    for node in part.graph.nodes:
        if node.op == "output":
            made.output(map_arg(node.args[0], known.__getitem__))
            continue
        if (
            node.op == "call_function"
            and node.target is not operator.getitem
            and not isinstance(node.target, torch._ops.OpOverload)
        ):
            return None
        if node.target not in table:
            if overwrites(node) and not overwriting:
                raise Overwrites
            known[node] = _copy_or_take(node, made, known, part.root, root)
            continue
        inputs = list(dict.fromkeys(node.all_input_nodes))
        if any(not isinstance(each.meta.get("val"), Tensor) for each in inputs):
            return None
        kinds = tuple((v.shape, v.stride(), v.dtype, v.device) for v in (each.meta["val"] for each in inputs))
        at = {each: _Place(place) for place, each in enumerate(inputs)}
        key = node.target, kinds, repr(map_arg((node.args, node.kwargs), at.__getitem__))  # type: ignore[arg-type]
        if key not in rules:
            rules[key] = _rule(node, inputs, table, rules)
        rule = rules[key]
        if rule is None:
            return None
        if any(map(overwrites, rule.graph.nodes)):
            if overwriting:
                return None
            raise Overwrites
        inside: dict[Node, Any] = dict(
            zip(rule.graph.find_nodes(op="placeholder"), map(known.__getitem__, inputs), strict=True)
        )
        for step in rule.graph.nodes:
            if step.op == "output":
                known[node] = map_arg(step.args[0], inside.__getitem__)
            elif step not in inside:
                inside[step] = _copy_or_take(step, made, inside, rule.root, root)
        if overwrites(node):  # it overwrites its input, which copying a rule does not handle
            return None
    return _Part(made, root)


class _Place:
    """Placeholder for an input in the key that two operations share."""

    def __init__(self, number: int) -> None:
        self._number = number

    def __repr__(self) -> str:
        return f"<{self._number}>"


def _copy_or_take(node: Node, graph: Graph, known: dict[Node, Any], source: Any, root: Any) -> Any:
    """Copies a node; if it selects one of several results that are already nodes, returns that result."""
    if node.target is operator.getitem and not isinstance(known[node.args[0]], Node):  # type: ignore[index]
        return known[node.args[0]][node.args[1]]  # type: ignore[index]
    return _copy(node, graph, known, source, root)


def _rule(node: Node, inputs: list[Node], table: Table, rules: dict[Any, _Part | None]) -> _Part | None:
    """Decomposes one operation: its rule is recorded, and the operations of that are decomposed in turn. `make_fx` takes three times as long for the same."""

    def run(*tensors: Tensor) -> Any:
        given = dict(zip(inputs, tensors, strict=True))
        args, kwargs = map_arg((node.args, node.kwargs), given.__getitem__)  # type: ignore[arg-type]
        return table[node.target](*args, **kwargs)

    with disable_proxy_modes_tracing(), without_numbers():
        shapes = [each.meta["val"] for each in inputs]
        tensors = [torch.empty_strided(v.shape, v.stride(), dtype=v.dtype, device=v.device) for v in shapes]
        recorded, _, form = recording(run, *tensors)
        made = _decompose(_Part(recorded.graph, recorded.root), table, True, rules)
    if made is not None:
        (end,) = made.graph.find_nodes(op="output")
        end.args = (tree_unflatten(list(end.args[0]), form),)
    return made
