"""Traces tensor operations, by our own recorder or torch's tracer."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch._guards import TracingContext, tracing
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.fx import Graph, GraphModule
from torch.fx.experimental.proxy_tensor import make_fx
from torch.utils._pytree import tree_leaves

from .inline import decomposed
from .record import record
from .sources import drop_old_sources

CPU = torch.device("cpu")
LOOKED_AT = "guard"  # marks the node that checks whether a program is valid for its arguments
READS = (
    "_local_scalar_dense",
    "data-dependent",
    "data dependent",
    "DataDependent",
)  # in torch's messages about such reads
OVERWRITES = "invalid size, possible overflow"  # torch's message for writing to a part of a tensor while several fits are traced at once
INSIDE = (
    "aten.",
    "aten::",
    "make_fx",
    "FakeTensor",
    "proxy",
    "functorch",
    "vmap",
)  # parts of messages that don't help a user


def trace(fn: Callable[..., Any], *examples: Any, decompositions: Mapping[Any, Any] | None = None) -> GraphModule:
    """Records the operations that a function runs on these examples, as a graph that is entirely on their device.

    Args:
        decompositions: Operation → a function that does the same in others.
    """
    # With a context, one mode records the shapes of all nodes; otherwise torch makes a mode for each node, with
    # its own stack trace, and takes twice as long.
    with tracing(TracingContext(FakeTensorMode())), _without_onednn():
        graph = _recorded(fn, examples)
        if graph is not None and decompositions is not None:
            graph = decomposed(graph, decompositions, overwriting=True)
        graph = graph or make_fx(fn, decomposition_table=dict(decompositions or {}))(*examples)
    drop_old_sources()
    where = next((leaf.device for leaf in tree_leaves(examples) if isinstance(leaf, Tensor)), CPU)
    return graph if where.type == "cpu" else _all_on(graph, where)


@contextmanager
def _without_onednn() -> Iterator[None]:
    """Context without oneDNN, whose LSTM is a single operation that no back end supports."""
    before = torch._C._get_mkldnn_enabled()
    torch._C._set_mkldnn_enabled(False)
    try:
        yield
    finally:
        torch._C._set_mkldnn_enabled(before)


def _recorded(fn: Callable[..., Any], examples: tuple[Any, ...]) -> GraphModule | None:
    """The recorded graph; None if there are higher-order operations, for which `make_fx` is needed."""
    try:
        return record(fn, *examples)
    except NotImplementedError:
        return None


def _all_on(graph: GraphModule, where: torch.device) -> GraphModule:
    """Moves constants that a function makes on the CPU, such as `torch.tensor(2.0)`, to the device, as a recorded CUDA graph can't copy them from the CPU."""
    for node in graph.graph.nodes:
        if node.op == "get_attr" and isinstance(held := getattr(graph, node.target, None), Tensor):
            setattr(graph, node.target, held.to(where))
        elif node.op == "call_function" and node.kwargs.get("device") == CPU and not fetches(node):
            node.kwargs = (
                {**node.kwargs, "device": where, "pin_memory": False}
                if "pin_memory" in node.kwargs
                else {**node.kwargs, "device": where}
            )
    graph.recompile()
    return graph


def fetches(node: Any) -> bool:
    """Whether a node copies a tensor from another device to the CPU."""
    return node.target is torch.ops.aten._to_copy.default


def in_words(error: Exception) -> str:
    """Explains to a user why a function can't be traced; torch's own messages are for developers of tracers."""
    said = f"{type(error).__name__}: {error}"
    if any(word in said for word in READS):
        return (
            "a value is read out of a tensor, as in `if z > 0`, `int(z)`, `z.item()` or a mask by `bool(z)`, and a compiled program would fix it. Wanted: "
            "tensor operations throughout, such as torch.where(z > 0, a, b)"
        )
    if OVERWRITES in said:
        return (
            "a part of a tensor is modified in place, like `K.view(-1)[::n] += jitter` in Pyro's Gaussian processes, which torch can't trace for several fits at once. Wanted: new tensors, as in "
            "K + jitter * torch.eye(n), or one fit after the other"
        )
    if any(word in said for word in INSIDE):
        return "it uses operations that torch can't trace"
    return str(error).split("\n")[0]


def known_limit(error: Exception) -> bool:
    """Whether an error is a known limit of tracing, not a bug."""
    return any(word in f"{type(error).__name__}: {error}" for word in (*READS, "DynamicOutputShape", OVERWRITES))


def draws_inside(graph: GraphModule) -> bool:
    """Whether it draws random numbers by itself."""
    return any(
        torch.Tag.nondeterministic_seeded in getattr(node.target, "tags", ()) and not _drops_nothing(node)
        for node in graph.graph.nodes
    )


def _drops_nothing(node: Any) -> bool:
    """Whether an operation is random only through its dropout, like attention, and has a dropout of 0."""
    places = {argument.name: place for place, argument in enumerate(node.target._schema.arguments)}
    if (place := places.get("dropout_p")) is None:
        return False
    given = node.args[place] if place < len(node.args) else node.kwargs.get("dropout_p", 0.0)
    return bool(given == 0.0)


def without_guards(module: GraphModule) -> GraphModule:
    """A captured graph without its check that it is valid for its arguments, for callers that have checked."""
    graph = Graph()
    graph.output(graph.graph_copy(module.graph, {}))
    graph.set_codegen(module.graph._codegen)
    for node in graph.nodes:
        if LOOKED_AT in node.meta:
            node.replace_all_uses_with(node.args[1])
    graph.eliminate_dead_code()
    return GraphModule(module, graph)
