"""One optimiser step as a pure function of tensors."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from ..validation import vmap
from .capture import Program, Tensors
from .inline import inlined
from .joint import joints
from .update import MOVING, State, Update, moved_by

SQUARES = ("exp_avg_sq", "square_avg", "sum")  # of an optimiser's state: means of squared gradients


@dataclass(frozen=True)
class LoopState:
    """Where training stands.

    Attributes:
        steps: () float64, optimiser steps taken.
        parameters: Name → unconstrained value.
        optimizer: Name → the optimiser's state for this parameter; of those that an optimiser moves.
        buffers: Name → value, of the modules' buffers.
    """

    steps: Tensor
    parameters: Tensors
    optimizer: dict[str, State]
    buffers: Tensors

    def flat(self) -> list[Tensor]:
        """All of it, in one order, in which what parameters have under one name is side by side."""
        states = [self.optimizer[name][key] for key, name in self._places()]
        return [self.steps, *self.parameters.values(), *states, *self.buffers.values()]

    def _places(self) -> list[tuple[str, str]]:
        """Name in the optimiser's state and of the parameter, for each of those tensors."""
        keys = dict.fromkeys(key for state in self.optimizer.values() for key in state)
        return [(key, name) for key in keys for name, state in self.optimizer.items() if key in state]

    def filled(self, tensors: Sequence[Tensor]) -> LoopState:
        """The same names over other tensors."""
        left = iter(tensors)
        steps = next(left)
        parameters = {k: next(left) for k in self.parameters}
        optimizer: dict[str, State] = {name: {} for name in self.optimizer}
        for key, name in self._places():
            optimizer[name][key] = next(left)
        return replace(
            self, steps=steps, parameters=parameters, optimizer=optimizer, buffers={k: next(left) for k in self.buffers}
        )


def step_of(
    program: Program,
    rules: Mapping[str, Update],
    like: LoopState,
    batch_size: int | None,
    given: Sequence[str] = (),
    *,
    joined: bool = False,
) -> Callable[..., list[Tensor]]:
    """(state, noise, rows, given options, columns) → (state, ELBO, whether it and the parameters are finite).

    A parameter without a rule stays what it is.

    Args:
        given: Options of the optimiser, of `MOVING`, that each step is handed: as one vector, where there are any.
        joined: Whether small parameters are moved as one.
    """
    count, graph = len(like.flat()), inlined(program.graph)
    tied = {name: rule for name, rule in rules.items() if rule.together}
    alone = {name: rule for name, rule in rules.items() if not rule.together}
    moving = dict.fromkeys([*rules, *(name for rule in tied.values() for name in rule.together)])
    groups = joints(alone, like.parameters, joined=joined)

    def step(*inputs: Any) -> list[Tensor]:
        state, batch, now = inputs_of(like, count, batch_size, given, inputs)
        gradients, value, buffers = graph(state.parameters, state.buffers, *batch)
        steps, finite = state.steps + 1, [torch.isfinite(value).all()]
        parameters = dict(state.parameters)
        optimizer = {name: dict(with_given(held, now)) for name, held in state.optimizer.items()}
        down = {name: -gradients[name] for name in moving}
        for joint in groups:
            some, held = [parameters[name] for name in joint.names], [optimizer[name] for name in joint.names]
            states = {key: joint.of([each[key] for each in held]) for key in held[0]}
            moved, after = joint.rule(joint.of(some), joint.of([down[name] for name in joint.names]), states, steps)
            finite.append(sound(moved, after))
            parameters |= zip(joint.names, joint.parts(moved, some), strict=True)
            for key, vector in after.items():
                for each, part in zip(held, joint.parts(vector, [h[key] for h in held]), strict=True):
                    each[key] = part
        for name, (moved, after) in moved_by(tied, state.parameters, down, optimizer, steps).items():
            finite.append(sound(moved, after))
            parameters[name], optimizer[name] = moved, after
        return [*LoopState(steps, parameters, optimizer, buffers).flat(), value, torch.stack(finite).all()]

    return step


def inputs_of(
    like: LoopState, count: int, batch_size: int | None, given: Sequence[str], inputs: Sequence[Any]
) -> tuple[LoopState, tuple[Any, tuple[Any, ...]], Tensors]:
    """Of a step: its state, the noise and arguments of the program, and the options that it is given."""
    normals, uniforms, *args = inputs[count:]
    index = args.pop(0) if batch_size is not None else None
    now = dict(zip(given, args.pop(0).unbind(), strict=True)) if given else {}
    if index is not None:
        args = [column.index_select(0, index) for column in args]
    return like.filled(inputs[:count]), ((normals, uniforms), tuple(args)), now


def with_given(state: State, now: Tensors) -> State:
    """The state of an optimiser, with the options that a step is given in it."""
    return {name: now.get(name, held) for name, held in state.items()} if now else state


def sound(parameter: Tensor, state: State) -> Tensor:
    """() whether a step has led to real numbers. What is not finite in a gradient is not in the parameter either; an infinite mean of squares would hold the
    parameter for good where it is."""
    for name in SQUARES:
        if name in state:
            parameter = parameter + 0.0 * state[name]
    return torch.isfinite(parameter).all()


def midway(state: LoopState) -> LoopState:
    """A state as of a run that is under way, to try a step on.

    An optimiser's first step can be discontinuous: where a gradient is zero but for rounding, Adam moves by its sign.
    """
    optimizer = {
        name: {
            key: held if key in MOVING else torch.full_like(held, 1.0 if key in SQUARES else 0.5)
            for key, held in each.items()
        }
        for name, each in state.optimizer.items()
    }
    return replace(state, optimizer=optimizer)


def side_by_side(
    step: Callable[..., list[Tensor]], states: int, rows: int, own: Collection[int] = ()
) -> Callable[..., list[Tensor]]:
    """A step of many fits, all their own but the columns that are not at the places `own`. It is finite as long as one of them is."""

    def steps(*inputs: Any) -> list[Tensor]:
        first = states + rows
        dims = (0,) * first + tuple(0 if place in own else None for place in range(len(inputs) - first))
        *after, values, finite = vmap(step, in_dims=dims)(*inputs)
        taken = inputs[0]
        going = finite & (taken == taken.amax())  # who stopped once has taken fewer
        kept = [
            torch.where(going.view(-1, *[1] * (new.dim() - 1)), new, old)
            for new, old in zip(after, inputs[:states], strict=True)
        ]
        return [*kept, torch.where(going, values, torch.nan), going.any()]

    return steps
