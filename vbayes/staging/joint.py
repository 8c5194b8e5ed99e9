"""Parameters that an optimiser updates as one vector: the same numbers with far fewer operations, which matters if each operation is a kernel."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from .update import MOVING, State, Update

SMALL = 4096  # maximum size of a parameter that is joined if a step is fused by XLA: joining a larger one costs more than a kernel of its own
ALL = math.inf  # the same if each operation launches a kernel: a dozen parameters with Adam need some two hundred kernels separately, and a dozen as one vector
SINGLE = (*MOVING, "counted")  # entries of an optimiser's state that are a single number for the whole parameter


@dataclass(frozen=True)
class Joint:
    """Parameters that are updated by one rule.

    Attributes:
        names: Names of the parameters.
        shapes: Shapes of the parameters.
        rule: The rule that updates them.
        alike: Whether the rule belongs to a single optimiser, so that single numbers in its state are the same for all of them.
    """

    names: tuple[str, ...]
    shapes: tuple[torch.Size, ...]
    rule: Update
    alike: bool

    def of(self, tensors: Sequence[Tensor]) -> Tensor:
        """Joins tensors, one for each parameter (of its shape, or a single number), into one vector; the tensor of a single parameter is unchanged, and so is a number shared by all."""
        first = tensors[0]
        if len(tensors) == 1 or (not first.dim() and all(tensor is first for tensor in tensors)):
            return first
        return torch.cat([tensor.expand(shape).reshape(-1) for tensor, shape in zip(tensors, self.shapes, strict=True)])

    def states(self, each: Sequence[State]) -> State:
        """A joint state, from that of each parameter."""
        first = each[0]
        return {
            key: first[key] if self.alike and key in SINGLE else self.of([held[key] for held in each]) for key in first
        }

    def parts(self, vector: Tensor, like: Sequence[Tensor]) -> list[Tensor]:
        """The parts of a joint vector for each parameter; the inverse of `of`."""
        if len(like) == 1 or not vector.dim():
            return [vector] * len(like)
        split = vector.split([shape.numel() for shape in self.shapes])
        return [part[: each.numel()].view_as(each) for part, each in zip(split, like, strict=True)]


def joints(rules: Mapping[str, Update], parameters: Mapping[str, Tensor], most: float) -> list[Joint]:
    """Joins parameters with the same rule.

    Args:
        most: Maximum size of a parameter that is joined with others; with 0, none is.
    """
    groups: list[list[str]] = []
    for name, rule in rules.items():
        for group in groups:
            if rules[group[0]] == rule and _joins(parameters[name], parameters[group[0]], most):
                group.append(name)
                break
        else:
            groups.append([name])
    return [
        Joint(tuple(g), tuple(parameters[n].shape for n in g), rules[g[0]], all(rules[n] is rules[g[0]] for n in g))
        for g in groups
    ]


def _joins(one: Tensor, other: Tensor, most: float) -> bool:
    return one.dtype == other.dtype and all(0 < tensor.numel() <= most for tensor in (one, other))
