"""Makes a captured density one that can be mapped over many points."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.fx import GraphModule
from torch.fx.experimental.proxy_tensor import disable_proxy_modes_tracing, get_proxy_mode, get_proxy_slot, make_fx
from torch.utils._python_dispatch import TorchDispatchMode


class ReadsOfData(TorchDispatchMode):
    """While a density is captured, lets the model read values that do not depend on the point, as in `int(group.max()) + 1`; they are built in. Other reads stop the capture, as usual."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is torch.ops.aten._local_scalar_dense.default and _of_data(args[0]):
            with disable_proxy_modes_tracing():
                return func(*args)
        return func(*args, **(kwargs or {}))


def _of_data(value: Tensor) -> bool:
    """Whether a tensor is computed from constants alone, in the capture that is under way."""
    mode = get_proxy_mode()
    proxy = get_proxy_slot(value, mode.tracer, None) if mode is not None else None
    if proxy is None:
        return False
    left, seen = [proxy.proxy.node], set[Any]()
    while left:
        node = left.pop()
        if node.op == "placeholder" or _draws(node):
            return False
        seen.add(node)
        left += [each for each in node.all_input_nodes if each not in seen]
    return True


def mappable(graph: GraphModule, here: Tensor) -> GraphModule:
    """Writes nothing in place, as the transform to ordered numbers does; fills by a mask that other points may not have, as in the density of a multinomial; has NaN where a matrix can't be
    factorised, instead of an error that would stop all other points beside it; and no draws that nothing reads, as of the first value in `pyro.param("w", torch.randn(3))`, which is
    there already.

    Args:
        graph: A density.
        here: (D,) numbers to call it with.
    """
    if any(_writes(node) for node in graph.graph.nodes):
        graph = make_fx(torch.func.functionalize(graph))(here)
    (end,) = graph.graph.find_nodes(op="output")
    result = end.args[0]
    for node in graph.graph.find_nodes(op="call_function", target=torch.ops.aten._linalg_check_errors.default):
        with graph.graph.inserting_before(end):
            result = graph.graph.call_function(_or_nan, (result, node.args[0]))
        graph.graph.erase_node(node)
    end.args = (result,)
    for node in graph.graph.find_nodes(op="call_function", target=torch.ops.aten.index_put.default):
        base, indices, value, *_ = node.args
        if len(indices) == 1 and _like(indices[0], graph).dtype == torch.bool and _like(value, graph).numel() == 1:
            node.target, node.args = _filled, (base, indices[0], value)
    for node in graph.graph.nodes:
        node.target = OUT_OF_PLACE.get(node.target, node.target)
    graph.graph.eliminate_dead_code(lambda node: node.is_impure() and not _draws_alone(node))
    graph.recompile()
    return graph


def _filled(base: Tensor, mask: Tensor, value: Tensor) -> Tensor:
    """`base` with a number wherever the mask, over its first dimensions, is true."""
    mask = mask.reshape(mask.shape + (1,) * (base.dim() - mask.dim()))
    return torch.where(mask, value.reshape(()).to(base.dtype), base)


def _copied(base: Tensor, source: Tensor, *_: Any) -> Tensor:
    return source.to(base.dtype).expand(base.shape)


def _sliced(
    base: Tensor, source: Tensor, dim: int = 0, start: int | None = None, end: int | None = None, step: int = 1
) -> Tensor:
    """`base` with another tensor in the place of a slice."""
    places = list(range(base.shape[dim]))
    own, others = dict(zip(places[start:end:step], source.unbind(dim), strict=True)), base.unbind(dim)
    return torch.stack([own.get(place, others[place]).to(base.dtype) for place in places], dim)


def _selected(base: Tensor, source: Tensor, dim: int, index: int) -> Tensor:
    index = index % base.shape[dim]
    return _sliced(base, source.unsqueeze(dim), dim, index, index + 1)


# What has no rule for `vmap`, or one that fails.
OUT_OF_PLACE = {
    torch.ops.aten.copy.default: _copied,
    torch.ops.aten.slice_scatter.default: _sliced,
    torch.ops.aten.select_scatter.default: _selected,
}


def _writes(node: Any) -> bool:
    return node.op == "call_function" and bool(getattr(getattr(node.target, "_schema", None), "is_mutable", False))


def _like(node: Any, graph: GraphModule) -> Any:
    """A tensor of the type and shape of a node's result."""
    return getattr(graph, node.target) if node.op == "get_attr" else node.meta["val"]


def _draws(node: Any) -> bool:
    return torch.Tag.nondeterministic_seeded in getattr(node.target, "tags", ())


def _draws_alone(node: Any) -> bool:
    return _draws(node) and not _writes(node)


def _or_nan(value: Tensor, failures: Tensor) -> Tensor:
    return value + torch.where((failures != 0).any(), torch.nan, 0.0)
