"""Estimators with a memory from one draw to the next, stored as the buffers of a module.

A module's buffers are already part of a pair's state, of checkpoints, of captured programs and compiled loops,
so such a memory needs no further machinery.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass, field
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from .. import rng
from ..arguments.real import Real
from ..data.dataset import Batch
from ..drawing.particles import Particles
from ..drawing.side_by_side import flat
from ..pair.pair import Pair
from ..validation import values_unchecked
from .base import Estimate, Estimator


class Memory(nn.Module):
    """State that is zero before the first draw.

    Attributes:
        begun: Whether it has been initialised by `Remembering.init`.
        learned: Names of the former parameters of `network`, if there is one.
    """

    learned: tuple[str, ...] = ()

    def __init__(self, names: tuple[str, ...]) -> None:
        super().__init__()
        self.begun = False
        for name in names:
            self.register_buffer(name, torch.zeros((), device="cpu"))


@dataclass(frozen=True)
class Remembering(Estimator):
    """Base class of estimators that carry numbers from one draw to the next."""

    memory: Memory = field(init=False, repr=False, compare=False, default=None)  # type: ignore[assignment]

    remembers: ClassVar[tuple[str, ...]] = ()
    """Names of these numbers."""

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "memory", Memory(self.remembers))

    def init(self, particles: Particles) -> dict[str, Tensor]:
        """Name → initial value of the memory; by default one zero each, with the type and device of the draws.

        Args:
            particles: Some draws, for their shapes.
        """
        like = next(iter([*flat(particles), *(step.log_w for step in vars(particles).get("steps", ()))]))
        return {name: like.new_zeros(()) for name in self.remembers}

    def begin(self, particles: Particles) -> None:
        """Sets the memory to its initial value; if that is random, it is the same each time."""
        with rng.seeded(0), torch.no_grad():
            for name, value in self.init(particles).items():
                self.memory.register_buffer(name, value.detach().clone())
        self.memory.begun = True

    def total(self, particles: Particles) -> Estimate:
        if not self.memory.begun:  # in Pyro's own SVI
            self.begin(particles)
        return super().total(particles)


@dataclass(frozen=True)
class Averaging(Remembering):
    """Base class of estimators with moving averages over earlier draws.

    Gradients remain unbiased, as the averages do not depend on the current draw.

    Args:
        decay: d in m ← d m + (1 − d) now, from 0 to below 1.
    """

    decay: float = 0.9

    remembers: ClassVar[tuple[str, ...]] = ("weight",)
    """Names of the averages, and `weight`, the sum of the weights of all draws so far: 1 after many draws."""

    limits = {"decay": Real(least=0.0, below=1.0, given="0.9")}

    def recall(self, **now: Tensor) -> dict[str, Tensor]:
        """Returns the averages over earlier draws, 0 if there are none, and then adds the values of this draw, each ()."""
        memory = self.memory
        weight = memory.get_buffer("weight")
        before = {name: memory.get_buffer(name) / weight.clamp(min=1 - self.decay) for name in now}
        if torch.is_grad_enabled():  # evaluations don't count
            for name, value in now.items():
                setattr(memory, name, self.decay * memory.get_buffer(name) + (1 - self.decay) * value.detach())
            memory.weight = self.decay * weight + (1 - self.decay)
        return before


def with_memory(estimator: Any, pair: Pair, batch: Batch) -> Any:
    """Prepares an estimator for use with a pair.

    One with a memory gets a new memory, which the pair holds like the buffers of its modules; any other estimator
    is returned unchanged. The pair drops the memory of the estimator of an earlier fit.

    Args:
        pair: The pair, which is modified.
        batch: A batch with the shapes that will be used.
    """
    pair.release()
    if not isinstance(estimator, Remembering):
        return estimator
    own = copy.copy(estimator)
    object.__setattr__(own, "memory", Memory(own.remembers))
    with pair.copy().look(), values_unchecked():
        own.begin(own.draw(pair, batch))
    pair.hold(own.memory)
    return own


def remembered(estimator: Any, pair: Pair) -> dict[str, Tensor]:
    """The current memory of an estimator prepared by `with_memory`, by the names of its buffers; empty for an estimator without a memory."""
    if not isinstance(estimator, Remembering):
        return {}
    with pair.scope():
        return {name: value.clone() for name, value in estimator.memory.named_buffers()}
