"""Tests whether two computations of a number agree up to rounding."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.fx import GraphModule, Interpreter, Node
from torch.utils._pytree import tree_leaves


def equal(mine: Sequence[Tensor], right: Sequence[Tensor], eps: float) -> bool:
    """Whether numbers are equal up to rounding: to half of the digits; for numbers that cancel to nearly zero, to the digits that the size of the others allows.

    Args:
        mine, right: A value, and the coordinates of its gradient.
        eps: Machine epsilon of the coarsest type that they were computed from.
    """
    longest = max(map(largest, right[1:]), default=0.0)

    def close(one: Tensor, theirs: Tensor) -> bool:
        own = max(eps, torch.finfo(theirs.dtype).eps)
        return torch.allclose(
            one, theirs, rtol=0.0, atol=own**0.5 * largest(theirs) + 100 * own * longest, equal_nan=True
        )

    return all(map(close, mine, right))


def distance(mine: Sequence[Tensor], right: Sequence[Tensor]) -> float:
    """The largest difference; infinite if only one of the two is finite."""
    if any((one.isfinite() != theirs.isfinite()).any() for one, theirs in zip(mine, right, strict=True)):
        return math.inf
    return max(largest(one - theirs) for one, theirs in zip(mine, right, strict=True))


def largest(tensor: Tensor) -> float:
    """The largest absolute value among finite numbers."""
    return float(tensor.abs().nan_to_num(posinf=0.0).max()) if tensor.numel() else 0.0


def largest_on_the_way(graph: Any, *inputs: Any) -> float:
    """The largest absolute value among all finite intermediate results of a graph, whose rounding error may be in its outputs."""
    met = [0.0]

    class Looking(Interpreter):
        def run_node(self, n: Node) -> Any:
            made = super().run_node(n)
            met.extend(largest(one) for one in tree_leaves(made) if isinstance(one, Tensor) and one.is_floating_point())
            return made

    if isinstance(graph, GraphModule):
        Looking(graph).run(*inputs)
    return max(met)
