"""A graph of ATen operations as a function of jax arrays, flat in and flat out."""

from __future__ import annotations

import operator
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import torch
from torch import Tensor
from torch.fx import GraphModule, Node
from torch.fx.node import map_arg

from .crossing import SMALL
from .rules import DRAWS, RULES, Unsupported
from .rules.registry import cast
from .rules.shapes import seen

Arrays = Sequence[jax.Array]


def supported(op: Any) -> bool:
    """Whether an operation of ATen has a rule, or needs none."""
    return isinstance(op, torch._ops.OpOverload) and (_name(op) in RULES or _name(op) in DRAWS or op.is_view)


class Translation:
    """What a graph does, in jax.

    Args:
        graph: Without mutation; each node notes what it makes (`meta["val"]`).

    Attributes:
        constants: Large constants of the graph, which are passed as inputs; small ones are built in.
        draws: The operations that draw random numbers, in their order.

    Raises:
        Unsupported: There is no rule for an operation.
    """

    def __init__(self, graph: GraphModule) -> None:
        self._nodes = list(graph.graph.nodes)
        held = {n: getattr(graph, str(n.target)) for n in self._nodes if n.op == "get_attr"}
        self._large = [n for n, tensor in held.items() if tensor.numel() > SMALL]
        self.constants: list[Tensor] = [held[n] for n in self._large]
        self._small = {n: tensor.cpu().numpy() for n, tensor in held.items() if n not in self._large}
        self.draws: list[Node] = []
        for node in self._nodes:
            if node.op == "call_function" and node.target is not operator.getitem:
                if not supported(node.target):
                    raise Unsupported(f"XLA has no rule for {_name(node.target).strip('_')}{node.meta.get('line', '')}")
                if _name(node.target) in DRAWS:
                    self.draws.append(node)

    def __call__(
        self, inputs: Arrays, constants: Arrays, key: Any = None, drawn: Mapping[Node, Any] | None = None
    ) -> list[Any]:
        """The outputs, inside a program of jax's.

        Args:
            inputs, constants: What the graph takes, and `constants`.
            key: Of the random numbers of this run.
            drawn: In place of those.
        """
        left = iter(inputs)
        env: dict[Node, Any] = dict(zip(self._large, constants, strict=True))
        env |= {node: jnp.asarray(array) for node, array in self._small.items()}
        for number, node in enumerate(self._nodes):
            if node.op == "placeholder":
                env[node] = next(left)
            elif node.op == "output":
                return [env[n] for n in node.args[0]]
            elif node.op == "call_function":
                if drawn is not None and node in drawn:
                    env[node] = drawn[node]
                    continue
                args, kwargs = map_arg((node.args, node.kwargs), env.__getitem__)
                draws = key is not None and node in self.draws
                env[node] = _made(node, args, kwargs, jax.random.fold_in(key, number) if draws else None)
        raise AssertionError("a graph without an output")


def key_of(seed: Any) -> Any:
    """The same numbers from it whatever the user has jax draw by."""
    return jax.random.key(seed, impl="threefry2x32")


def _made(node: Node, args: Any, kwargs: Any, key: Any) -> Any:
    op: Any = node.target
    if op is operator.getitem:
        return args[0][args[1]]
    name = _name(op)
    out: Any = node.meta.get("val")
    if name in DRAWS:
        found = DRAWS[name](key, out, *args, **kwargs)
    elif name in RULES:
        found = RULES[name](out, *args, **kwargs)
    else:
        found = seen(op, *args, **kwargs)
    if isinstance(out, Tensor):
        return _like(found, out, op)
    if isinstance(out, (list, tuple)):
        return [_like(f, o, op) if isinstance(o, Tensor) else None for f, o in zip(found, out, strict=True)]
    return found


def _like(array: Any, out: Tensor, op: Any) -> jax.Array:
    if array is None:
        return None  # type: ignore[return-value]
    made = cast(array, out.dtype)
    if made.shape != tuple(out.shape):
        raise Unsupported(f"XLA's rule for {op} made {made.shape} of what is {tuple(out.shape)}")
    return made


def _name(op: Any) -> str:
    return str(op._schema.name.split("::")[1])
