"""Programs in a form that a CUDA graph can record: nothing in them may bring a value to the host."""

from __future__ import annotations

import math
import operator
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.fx import Graph, GraphModule, Node
from torch.fx.experimental.proxy_tensor import disable_proxy_modes_tracing
from torch.utils._python_dispatch import TorchDispatchMode

from .cuda_capture import Unrecordable
from .trace import CPU, fetches

aten = torch.ops.aten
CHECK = aten._linalg_check_errors.default
FACTORISES = {
    aten.linalg_cholesky_ex.default: 1, aten.linalg_inv_ex.default: 1, aten.linalg_lu_factor_ex.default: 2,
    aten.linalg_ldl_factor_ex.default: 2, aten._linalg_solve_ex.default: 3,
}  # fmt: skip
"""Operation → the place, among its outputs, of the number that is 0 where it succeeded."""
CHECKS_ITSELF = (
    aten._linalg_eigh, aten.linalg_eig, aten._linalg_eigvals, aten._linalg_svd, aten.linalg_lstsq, aten.linalg_matrix_exp,
    aten.cholesky_inverse, aten.cholesky, aten.linalg_pinv,
)  # fmt: skip
"""Operations whose CUDA kernels read on the host whether they succeeded, or how far they are."""
BY_INDEX = (
    aten.index, aten._unsafe_index, aten.index_put, aten.index_put_, aten._unsafe_index_put, aten._index_put_impl_,
)  # fmt: skip
"""Operations that first count what a mask selects."""


class Unchecked(TorchDispatchMode):
    """Dispatch mode in which every factorisation passes for one that succeeded, so that the matrices on which a program is traced need not have factors."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        made = func(*args, **(kwargs or {}))
        if func in FACTORISES:
            with disable_proxy_modes_tracing():
                made[FACTORISES[func]].zero_()
        return made


def recordable(program: GraphModule, inputs: Sequence[Any]) -> GraphModule:
    """Replaces each check of a factorisation, which reads its success, by NaN in the factors of what has none, as machine code and XLA have it.

    Args:
        program: Is changed.
        inputs: What it is recorded on, all on one device: of a tensor on the host, the value would be built in.

    Raises:
        Unrecordable: It brings a value to the host in another way.
    """
    if len(devices := {str(each.device) for each in inputs if isinstance(each, Tensor)}) > 1:
        raise Unrecordable(f"its arguments are on {' and '.join(sorted(devices))}")
    _without_checks(program.graph)
    program.recompile()
    for node in program.graph.nodes:
        if why := _reads(node):
            raise Unrecordable(f"{why}{node.meta.get('line', '')}")
    return program


def _without_checks(graph: Graph) -> None:
    done = set[Node]()
    for check in graph.find_nodes(op="call_function", target=CHECK):
        factor = _checked(check.args[0])
        if factor is None:
            continue
        if factor not in done:
            _nan_where_it_failed(graph, factor)
            done.add(factor)
        graph.erase_node(check)


def _checked(info: Any) -> Node | None:
    """The factorisation that a check is for."""
    while info.target not in FACTORISES:
        if len(info.all_input_nodes) != 1:
            return None
        (info,) = info.all_input_nodes
    return info  # type: ignore[no-any-return]


def _nan_where_it_failed(graph: Graph, factor: Node) -> None:
    place, parts = FACTORISES[factor.target], [user for user in factor.users if user.target is operator.getitem]  # type: ignore[index]
    made = factor.meta["val"]
    with graph.inserting_after(factor):
        info = graph.call_function(operator.getitem, (factor, place))
    with graph.inserting_after(info):
        failed = graph.call_function(aten.ne.Scalar, (info, 0))
    for part in parts:
        value = made[part.args[1]]
        if not value.is_floating_point() and not value.is_complex():
            continue
        shape = [*made[place].shape, *[1] * (value.dim() - made[place].dim())]
        with graph.inserting_after(part):
            alike = graph.call_function(aten.reshape.default, (failed, shape))
        with graph.inserting_after(alike):
            sound = graph.call_function(aten.masked_fill.Scalar, (part, alike, math.nan))
        sound.meta["val"] = value
        part.replace_all_uses_with(sound)
        sound.update_arg(0, part)


def _reads(node: Node) -> str:
    """How an operation brings a value to the host; empty if it does not."""
    operation = node.target
    if not isinstance(operation, torch._ops.OpOverload):
        return ""
    name = operation._schema.name.split("::")[1].lstrip("_")
    if node.kwargs.get("device") == CPU and fetches(node):
        return f"{name} copies a tensor to the host"
    if operation.overloadpacket in BY_INDEX:
        indices = [each for each in node.args[1] if isinstance(each, Node)]  # type: ignore[union-attr]
        masked = any(each.meta["val"].dtype in (torch.bool, torch.uint8) for each in indices)
        return f"{name} by a mask brings the number of places in it to the host" if masked else ""
    tags = {torch.Tag.data_dependent_output, torch.Tag.dynamic_output_shape} & set(operation.tags)
    if tags or operation is CHECK or operation.overloadpacket in CHECKS_ITSELF:
        return f"{name} brings a value to the host"
    return ""
