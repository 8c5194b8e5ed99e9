"""What an estimator remembers from one draw to the next: kept as the buffers of a module.

A module's buffers are already part of everything: of a pair's state, of checkpoints, of captured programs and compiled loops.
So a memory that is a module needs no machinery of its own.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass, field
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from ..arguments.real import Real
from ..pair.pair import Pair
from .base import Estimator


class Memory(nn.Module):
    """Numbers that start at zero."""

    def __init__(self, names: tuple[str, ...]) -> None:
        super().__init__()
        for name in names:
            self.register_buffer(name, torch.zeros(()))


@dataclass(frozen=True)
class Remembering(Estimator):
    """An estimator that hands numbers on from one draw to the next."""

    memory: Memory = field(init=False, repr=False, compare=False, default=None)  # type: ignore[assignment]

    remembers: ClassVar[tuple[str, ...]] = ()
    """Their names."""

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "memory", Memory(self.remembers))

    def init(self, pair: Pair) -> dict[str, Tensor]:
        """An empty memory of the numeric type and on the device of the pair's parameters."""
        like = next(iter(pair.parameters.values()), torch.zeros(()))
        return {
            name: torch.zeros_like(value, dtype=like.dtype, device=like.device)
            for name, value in self.memory.named_buffers()
        }


@dataclass(frozen=True)
class Averaging(Remembering):
    """One with moving averages over the draws before the one at hand.

    A gradient stays unbiased: what is remembered does not know the present draw.

    Args:
        decay: d in m ← d m + (1 − d) now, from 0 to below 1.
    """

    decay: float = 0.9

    remembers: ClassVar[tuple[str, ...]] = ("weight",)
    """Names of the averages, and `weight`, how much of an average they are: 1 after many draws."""

    limits = {"decay": Real(least=0.0, below=1.0, given="0.9")}

    def recall(self, **now: Tensor) -> dict[str, Tensor]:
        """The averages over the draws before, 0 where there are none; then takes in this one's values, each ()."""
        memory = self.memory
        weight = memory.get_buffer("weight")
        before = {name: memory.get_buffer(name) / weight.clamp(min=1 - self.decay) for name in now}
        if torch.is_grad_enabled():  # a look at the value leaves no trace
            for name, value in now.items():
                setattr(memory, name, self.decay * memory.get_buffer(name) + (1 - self.decay) * value.detach())
            memory.weight = self.decay * weight + (1 - self.decay)
        return before


def with_memory(estimator: Any, pair: Pair) -> Any:
    """An estimator that is ready to be used on a pair.

    One that remembers gets a memory of its own, which the pair holds from now on as it holds the buffers of its modules; any other
    is handed back.
    """
    if not isinstance(estimator, Remembering):
        return estimator
    own = copy.copy(estimator)
    object.__setattr__(own, "memory", Memory(own.remembers))
    for name, value in own.init(pair).items():
        setattr(own.memory, name, value)
    pair.hold(own.memory)
    return own
