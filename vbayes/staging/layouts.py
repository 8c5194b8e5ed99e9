"""Operations that see memory as it lies, as the gradient of what was written to in parts does: they are handed memory that lies in order, all that back ends know of."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.fx import Graph, GraphModule, Node

aten = torch.ops.aten
SEES = (aten.as_strided.default, aten.as_strided_scatter.default)


def in_order(module: GraphModule) -> GraphModule:
    """A graph without mutation in which what sees memory sees that of contiguous tensors. The same graph, changed."""
    changed = False
    for node in list(module.graph.nodes):
        base: Any = node.args[0] if node.target in SEES else None
        if base is None or (order := _order(base.meta["val"])) is None:
            continue
        changed, back = True, [order.index(d) for d in range(len(order))]
        with module.graph.inserting_before(node):
            turned = _permuted(module.graph, base, order)
            whole = module.graph.call_function(
                aten.clone.default, (turned,), {"memory_format": torch.contiguous_format}
            )
            whole.meta["val"] = turned.meta["val"].contiguous()
        node.update_arg(0, whole)
        if node.target is aten.as_strided_scatter.default:
            node.meta["val"] = whole.meta["val"]
            with module.graph.inserting_after(node):
                made = _permuted(module.graph, node, back)
            node.replace_all_uses_with(made, delete_user_cb=lambda user, made=made: user is not made)
    if changed:
        module.recompile()
    return module


def _permuted(graph: Graph, node: Node, order: list[int]) -> Node:
    made = graph.call_function(aten.permute.default, (node, order))
    made.meta["val"] = node.meta["val"].permute(order)
    return made


def _order(tensor: Tensor) -> list[int] | None:
    """The dimensions in the order in which they lie in memory; None where that is their own, or memory has gaps or is shared."""
    order = sorted(range(tensor.dim()), key=lambda d: -tensor.stride()[d])
    return order if not tensor.is_contiguous() and tensor.permute(order).is_contiguous() else None
