"""Lowering: a captured graph of ATen operations → values."""

from __future__ import annotations

import operator
from typing import Any

import torch
from torch.fx import GraphModule, Node

from .ir import Graph, Input, Operand, Unsupported, Value, View
from .ops import BY_ATEN, COMBINES
from .rules import RULES
from .rules.arithmetic import plain
from .rules.reductions import reduced
from .rules.registry import copied, elementwise, fill, known, viewed


def supported(op: torch._ops.OpOverload) -> bool:
    """Whether an operation of ATen can be lowered as it is."""
    name = _name(op)
    return name in RULES or name in BY_ATEN or name in COMBINES or op.is_view


def lower(module: GraphModule, states: int = 0) -> Graph:
    """Walks a graph once, from its inputs to its outputs.

    Args:
        module: Each node notes what it makes (`meta["val"]`), as `FakeTensorProp` does.
        states: The first so many inputs are overwritten with the first as many outputs.

    Raises:
        Unsupported: An operation or a type that there is no C for.
    """
    inputs: list[Input] = []
    constants: list[Input] = []
    views: list[View] = []
    env: dict[Node, Any] = {}
    for node in module.graph.nodes:
        if node.op == "placeholder":
            tensor = node.meta["val"]
            inputs.append(Input(tuple(tensor.shape), known(tensor.dtype)))
            env[node] = View.whole(inputs[-1])
        elif node.op == "get_attr":
            tensor = getattr(module, node.target)
            if tensor.dim() == 0:
                env[node] = tensor.item()
            else:
                constants.append(Input(tuple(tensor.shape), known(tensor.dtype), constant=tensor.contiguous()))
                env[node] = View.whole(constants[-1])
        elif node.op == "output":
            views = [_array(env[a], a) for a in node.args[0]]
        else:
            args, kwargs = torch.fx.node.map_arg((node.args, node.kwargs), env.__getitem__)
            env[node] = _call(node, args, kwargs)
    outputs = _own_arrays(views, inputs[:states])
    if any((a.shape, a.dtype) != (b.shape, b.dtype) for a, b in zip(inputs[:states], outputs, strict=False)):
        raise Unsupported("a state that changes its shape or type")
    return Graph(tuple(inputs), tuple(constants), tuple(outputs), states)


def _call(node: Node, args: Any, kwargs: Any) -> Any:
    op: Any = node.target
    if op is operator.getitem:
        return args[0][args[1]]
    if not isinstance(op, torch._ops.OpOverload):
        raise Unsupported(getattr(op, "__name__", str(op)))
    name = _name(op)
    out: Any = node.meta.get("val")
    if name in RULES:
        return RULES[name](out, *args, **kwargs)
    if op.is_view:
        return viewed(op, *args, **kwargs)
    if name in BY_ATEN:
        return plain(out, BY_ATEN[name], *args)
    if name in COMBINES:
        return reduced(out, name, *args, **kwargs)
    raise Unsupported(called(node))


def called(node: Node) -> str:
    """The name of an operation as known to the author of the model, with the line if it was recorded."""
    return f"{_name(node.target).strip('_')}{node.meta.get('line', '')}"  # type: ignore[arg-type]


def _name(op: torch._ops.OpOverload) -> str:
    return str(op._schema.name.split("::")[1])


def _array(operand: Operand, node: Node) -> View:
    return operand if isinstance(operand, View) else fill((), node.meta["val"].dtype, operand)


def _own_arrays(views: list[View], states: list[Input]) -> list[Value]:
    """A contiguous array for each output, shared neither with other outputs nor with inputs, except for an unchanged state."""
    outputs: list[Value] = []
    for number, view in enumerate(views):
        value = copied(view).value
        stays = number < len(states) and value is states[number]
        if value in outputs or (isinstance(value, Input) and not stays):
            value = elementwise("copy", view.shape, value.dtype, view).value
        outputs.append(value)
    return outputs
