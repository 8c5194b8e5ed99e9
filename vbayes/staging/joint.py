"""Small parameters that an optimiser moves as one vector: the same numbers by far fewer operations, which is what counts where each of them is a kernel."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from .update import Update

SMALL = 4096  # numbers in a parameter: to put together more costs more than a kernel of its own


@dataclass(frozen=True)
class Joint:
    """Parameters that one rule moves.

    Attributes:
        names: Of the parameters.
        shapes: Of each.
        rule: What moves them.
    """

    names: tuple[str, ...]
    shapes: tuple[torch.Size, ...]
    rule: Update

    def of(self, tensors: Sequence[Tensor]) -> Tensor:
        """One vector of a tensor for each parameter, of its shape or a single number; that of a parameter alone stays as it is."""
        if len(tensors) == 1:
            return tensors[0]
        return torch.cat([tensor.expand(shape).reshape(-1) for tensor, shape in zip(tensors, self.shapes, strict=True)])

    def parts(self, vector: Tensor, like: Sequence[Tensor]) -> list[Tensor]:
        """The other way round."""
        if len(like) == 1:
            return [vector]
        split = vector.split([shape.numel() for shape in self.shapes])
        return [part[: each.numel()].view_as(each) for part, each in zip(split, like, strict=True)]


def joints(rules: Mapping[str, Update], parameters: Mapping[str, Tensor], *, joined: bool) -> list[Joint]:
    """Those whose rules are the same, put together if they are small; each by itself unless `joined`."""
    groups: list[list[str]] = []
    for name, rule in rules.items():
        for group in groups if joined else []:
            if rules[group[0]] == rule and _joins(parameters[name], parameters[group[0]]):
                group.append(name)
                break
        else:
            groups.append([name])
    return [Joint(tuple(g), tuple(parameters[name].shape for name in g), rules[g[0]]) for g in groups]


def _joins(one: Tensor, other: Tensor) -> bool:
    return one.dtype == other.dtype and all(0 < tensor.numel() <= SMALL for tensor in (one, other))
