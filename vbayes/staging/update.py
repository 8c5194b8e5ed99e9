"""An optimiser's update of one parameter, as a pure function."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

State = dict[str, Tensor]
Rule = Callable[[Tensor, Tensor, State, Tensor, Mapping[str, Any]], tuple[Tensor, State]]
JointRule = Callable[[list[Tensor], list[Tensor], Tensor], tuple[Tensor, ...]]

MOVING = ("lr", "beta1", "momentum")
"""Options that a schedule changes from step to step; they are entries of a state under these names, () float64 each."""


def moving_options(group: Mapping[str, Any]) -> dict[str, float]:
    """The values of those options in a parameter group of a torch optimiser, if it has them."""
    found = {name: group[name] for name in ("lr", "momentum") if name in group}
    return found | ({"beta1": group["betas"][0]} if "betas" in group else {})


@dataclass(frozen=True)
class Update:
    """One optimiser: its initial state, and its update of a parameter.

    Attributes:
        start: (parameter, options) → its state before the first step.
        rule: (parameter, gradient of the loss, state, number of the step from 1 in float64, options) → the new parameter and state.
        options: Learning rate and so on, under torch's names.
        moving: Options in `MOVING` that are inputs of a step, as a schedule changes them; the others are built in.
        together: Names of the parameters that it updates jointly, in the order of a joint rule: (their values, their gradients, number of the step) → their new values.
    """

    start: Callable[[Tensor, Mapping[str, Any]], State]
    rule: Rule | JointRule
    options: Mapping[str, Any]
    moving: tuple[str, ...] = ()
    together: tuple[str, ...] = ()

    def init(self, parameter: Tensor) -> State:
        values = moving_options(self.options)
        given = {name: parameter.new_full((), values[name], dtype=torch.float64) for name in self.moving}
        return self.start(parameter, self.options) | given

    def __call__(self, parameter: Tensor, gradient: Tensor, state: State, step: Tensor) -> tuple[Tensor, State]:
        given = {name: state[name] for name in self.moving}
        rule: Any = self.rule
        moved, after = rule(parameter, gradient, state, step, {**self.options, **given} if given else self.options)
        after = after | given
        return moved, {name: after[name] for name in state}


def moved_by(
    rules: Mapping[str, Update],
    parameters: Mapping[str, Tensor],
    gradients: Mapping[str, Tensor],
    states: Mapping[str, State],
    step: Tensor,
) -> dict[str, tuple[Tensor, State]]:
    """Name → the new parameter and its new state, for parameters that have a rule.

    Args:
        gradients: Gradients of the loss.
        step: Number of the step, from 1.
    """
    found: dict[str, tuple[Tensor, State]] = {}
    for name, update in rules.items():
        if not update.together:
            found[name] = update(parameters[name], gradients[name], states[name], step)
        elif name not in found:
            joint: Any = update.rule
            values = joint(*([of[n] for n in update.together] for of in (parameters, gradients)), step)
            found |= {n: (value, {}) for n, value in zip(update.together, values, strict=True)}
    return {name: found[name] for name in rules}
