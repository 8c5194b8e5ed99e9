"""Makes a captured density one that can be mapped over many points."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.fx import GraphModule

WRITES = (torch.ops.aten.index_put.default, torch.ops.aten.index_put_.default)


def mappable(graph: GraphModule) -> GraphModule:
    """Has NaN where a matrix can't be factorised, instead of an error that would stop all other points beside it; fills by a mask that other points may not have, as in the density of a
    multinomial; and no draws that nothing reads, as of the first value in `pyro.param("w", torch.randn(3))`, which is there already."""
    (end,) = graph.graph.find_nodes(op="output")
    result = end.args[0]
    for node in graph.graph.find_nodes(op="call_function", target=torch.ops.aten._linalg_check_errors.default):
        with graph.graph.inserting_before(end):
            result = graph.graph.call_function(_or_nan, (result, node.args[0]))
        graph.graph.erase_node(node)
    end.args = (result,)
    for target in WRITES:
        for node in graph.graph.find_nodes(op="call_function", target=target):
            base, indices, value, *_ = node.args
            if len(indices) == 1 and _is(torch.bool, indices[0], graph) and _like(value, graph).numel() == 1:
                node.target, node.args = _filled_in_place if target is WRITES[1] else _filled, (base, indices[0], value)
    graph.graph.eliminate_dead_code(lambda node: _writes(node) or (node.is_impure() and not _draws_alone(node)))
    graph.recompile()
    return graph


def _filled(base: Tensor, mask: Tensor, value: Tensor) -> Tensor:
    """`base` with a number wherever the mask, over its first dimensions, is true."""
    mask = mask.reshape(mask.shape + (1,) * (base.dim() - mask.dim()))
    return torch.where(mask, value.reshape(()).to(base.dtype), base)


def _filled_in_place(base: Tensor, mask: Tensor, value: Tensor) -> Tensor:
    return base.copy_(_filled(base, mask, value))


def _writes(node: Any) -> bool:
    return node.target is _filled_in_place


def _is(dtype: torch.dtype, node: Any, graph: GraphModule) -> bool:
    return node is not None and _like(node, graph).dtype == dtype


def _like(node: Any, graph: GraphModule) -> Any:
    """A tensor of the type and shape of a node's result."""
    return getattr(graph, node.target) if node.op == "get_attr" else node.meta["val"]


def _draws_alone(node: Any) -> bool:
    tags, schema = (getattr(node.target, name, None) for name in ("tags", "_schema"))
    return torch.Tag.nondeterministic_seeded in (tags or ()) and not getattr(schema, "is_mutable", True)


def _or_nan(value: Tensor, failures: Tensor) -> Tensor:
    return value + torch.where((failures != 0).any(), torch.nan, 0.0)
