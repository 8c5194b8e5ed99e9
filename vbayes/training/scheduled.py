"""Learning rates from Pyro's schedulers, as inputs of a compiled step."""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping
from typing import Any

import torch
from pyro.optim.clipped_adam import ClippedAdam
from pyro.optim.lr_scheduler import PyroLRScheduler
from torch import Tensor
from torch.optim.lr_scheduler import ReduceLROnPlateau

from ..staging.update import MOVING, moving_options


class Scheduled:
    """A scheduler that steps once per epoch, run ahead of the steps.

    Args:
        schedulers: torch's, one for each parameter and all alike.
        twin: An identical scheduler over a dummy parameter.
        per_epoch: Steps per epoch.
        taken: Steps so far.

    Attributes:
        names: The options in `MOVING` that it changes.
        waits: Whether it depends on the losses of an epoch, so that its rates are not known in advance.
    """

    def __init__(self, schedulers: list[Any], twin: Any, per_epoch: int, taken: int) -> None:
        self._schedulers, self._twin, self._per_epoch = schedulers, twin, per_epoch
        self.waits = isinstance(twin, ReduceLROnPlateau)
        cycles = getattr(twin, "cycle_momentum", False)
        has = moving_options(twin.optimizer.param_groups[0])
        self.names = tuple(name for name in MOVING if name in has and (name == "lr" or cycles))
        self._copy(schedulers[0], twin)
        self._epoch = self._held_epoch = taken // per_epoch
        self._held = self._state(twin)

    @classmethod
    def of(cls, optimizer: Any, leaves: Mapping[str, Tensor], per_epoch: int, taken: int) -> Scheduled | None:
        """Makes it for an optimiser whose torch optimisers exist already; None if it has no scheduler, or one whose rates are not known in advance."""
        if not known_ahead(optimizer):
            return None
        schedulers = [optimizer.optim_objs[leaf] for leaf in leaves.values()]
        twin = optimizer._get_optim(torch.zeros((), requires_grad=True, device="cpu"))
        return cls(schedulers, twin, per_epoch, taken)

    def room(self, step: int) -> float:
        """The number of steps from this one on whose rates are known."""
        return self._per_epoch - (step - 1) % self._per_epoch if self.waits else math.inf

    def ahead(self, step: int, count: int) -> Tensor:
        """(count, k) the options of the steps from this one on, in float64 on the CPU."""
        first, last = (step - 1) // self._per_epoch, (step + count - 2) // self._per_epoch
        if self.waits:
            self._copy(self._schedulers[0], self._twin)
            last = first
        self._held, self._held_epoch = self._at(first), first
        rates = [self._now]
        for _ in range(first, last):
            self._forward(self._epoch + 1)
            rates.append(self._now)
        table = torch.tensor(rates, dtype=torch.float64, device="cpu")
        return table[torch.arange(step - 1, step - 1 + count, device="cpu") // self._per_epoch - first]

    def settle(self, taken: int) -> None:
        """Sets the optimiser's own schedulers to their state after this number of steps."""
        if self.waits:
            return
        self._at(taken // self._per_epoch)
        for scheduler in self._schedulers:
            scheduler.optimizer._opt_called = True
            self._copy(self._twin, scheduler)

    @property
    def _now(self) -> list[float]:
        now = moving_options(self._twin.optimizer.param_groups[0])
        return [now[name] for name in self.names]

    def _at(self, epoch: int) -> Any:
        """The twin's state after this number of epochs."""
        if epoch < self._epoch:  # back after steps that could not be taken
            self._load(self._held, self._twin)
            self._epoch = self._held_epoch
        self._forward(epoch)
        return self._state(self._twin)

    def _forward(self, epoch: int) -> None:
        while self._epoch < epoch and not self.waits:
            self._twin.optimizer._opt_called = True  # torch warns about a rate that no step has used
            self._twin.step()
            self._epoch += 1
        self._epoch = epoch

    def _state(self, scheduler: Any) -> tuple[dict[str, Any], dict[str, Any]]:
        group = {name: value for name, value in scheduler.optimizer.param_groups[0].items() if name != "params"}
        return copy.deepcopy(scheduler.state_dict()), group

    def _load(self, state: tuple[dict[str, Any], dict[str, Any]], scheduler: Any) -> None:
        scheduler.load_state_dict(copy.deepcopy(state[0]))
        scheduler.optimizer.param_groups[0].update(state[1])

    def _copy(self, one: Any, other: Any) -> None:
        self._load(self._state(one), other)


def is_schedule(optimizer: Any) -> bool:
    """Whether it is one of Pyro's unmodified schedulers, and does not clip gradients."""
    return type(optimizer) is PyroLRScheduler and not optimizer.pt_clip_args


def known_ahead(optimizer: Any) -> bool:
    """Whether all parameters have the same rate, and only the scheduler changes it."""
    if not is_schedule(optimizer) or callable(optimizer.pt_optim_args):
        return False
    return (
        optimizer.pt_optim_constructor is not ClippedAdam
    )  # its own learning-rate decay interferes with the scheduler
