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

SQUARES = ("exp_avg_sq", "square_avg", "sum")  # entries of an optimiser's state that are means of squared gradients


@dataclass(frozen=True)
class LoopState:
    """The state of training.

    Attributes:
        steps: () float64, optimiser steps taken.
        parameters: Name → unconstrained value.
        optimizer: Name → the optimiser's state for this parameter, if an optimiser updates it.
        buffers: Name → value of the modules' buffers.
    """

    steps: Tensor
    parameters: Tensors
    optimizer: dict[str, State]
    buffers: Tensors

    def flat(self) -> list[Tensor]:
        """All tensors in a fixed order, in which entries of the optimiser's state with the same name are adjacent."""
        states = [self.optimizer[name][key] for key, name in self._places()]
        return [self.steps, *self.parameters.values(), *states, *self.buffers.values()]

    def _places(self) -> list[tuple[str, str]]:
        """Name in the optimiser's state and of the parameter, for each of those tensors."""
        keys = dict.fromkeys(key for state in self.optimizer.values() for key in state)
        return [(key, name) for key in keys for name, state in self.optimizer.items() if key in state]

    def filled(self, tensors: Sequence[Tensor]) -> LoopState:
        """A state with the same names and other tensors."""
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
    joined: float = 0,
) -> Callable[..., list[Tensor]]:
    """(state, noise, rows, given options, columns) → (state, ELBO, whether it and the parameters are finite).

    A parameter without a rule is unchanged. If the step gets `going`, () bool, whether training still continues, a step that is not finite changes nothing, nor do
    any steps after it; the last output is then the new `going`.

    Args:
        given: Options of the optimiser, out of `MOVING`, that each step gets as one vector, if there are any.
        joined: Maximum size of a parameter that is updated together with others; see `joints`.
    """
    count, graph = len(like.flat()), inlined(program.graph)
    tied = {name: rule for name, rule in rules.items() if rule.together}
    others = dict.fromkeys(name for rule in tied.values() for name in rule.together)
    groups = joints({name: rule for name, rule in rules.items() if not rule.together}, like.parameters, joined)

    def step(*inputs: Any, going: Tensor | None = None) -> list[Tensor]:
        state, batch, now = inputs_of(like, count, batch_size, given, inputs)
        gradients, value, buffers = graph(state.parameters, state.buffers, *batch)
        steps, finite = state.steps + 1, [torch.isfinite(value).all()]
        optimizer = {name: dict(with_given(held, now)) for name, held in state.optimizer.items()}
        down = [-joint.of([gradients[name] for name in joint.names]) for joint in groups]
        down_of = {name: -gradients[name] for name in others}
        before, after = [], []
        for joint, slope in zip(groups, down, strict=True):
            was = joint.of([state.parameters[name] for name in joint.names])
            held = joint.states([optimizer[name] for name in joint.names])
            before.append((was, held))
            after.append(joint.rule(was, slope, held, steps))
            finite.append(sound(*after[-1]))
        moved_at_once = moved_by(tied, state.parameters, down_of, optimizer, steps)
        finite += [sound(*each) for each in moved_at_once.values()]
        on = torch.stack(finite).all()
        on = on if going is None else going & on

        def kept(new: Tensor, old: Tensor) -> Tensor:
            return new if going is None else torch.where(on, new, old)

        parameters = state.parameters | {
            name: kept(new, state.parameters[name]) for name, (new, _) in moved_at_once.items()
        }
        for joint, (was, held), (moved, made) in zip(groups, before, after, strict=True):
            like_each = [state.parameters[name] for name in joint.names]
            parameters |= zip(joint.names, joint.parts(kept(moved, was), like_each), strict=True)
            for key, old in held.items():
                each = [optimizer[name] for name in joint.names]
                for mine, part in zip(each, joint.parts(kept(made[key], old), [m[key] for m in each]), strict=True):
                    mine[key] = part
        buffers = {name: kept(buffer, state.buffers[name]) for name, buffer in buffers.items()}
        reached = LoopState(kept(steps, state.steps), parameters, optimizer, buffers)
        return [*reached.flat(), value if going is None else torch.where(on, value, torch.nan), on]

    return step


def inputs_of(
    like: LoopState, count: int, batch_size: int | None, given: Sequence[str], inputs: Sequence[Any]
) -> tuple[LoopState, tuple[Any, tuple[Any, ...]], Tensors]:
    """The inputs of a step: its state, the noise and arguments of the program, and the given options."""
    normals, uniforms, *args = inputs[count:]
    index = args.pop(0) if batch_size is not None else None
    now = dict(zip(given, args.pop(0).unbind(), strict=True)) if given else {}
    if index is not None:
        args = [column.index_select(0, index) for column in args]
    return like.filled(inputs[:count]), ((normals, uniforms), tuple(args)), now


def with_given(state: State, now: Tensors) -> State:
    """The state of an optimiser, with the options given to a step inserted."""
    return {name: now.get(name, held) for name, held in state.items()} if now else state


def sound(parameter: Tensor, state: State) -> Tensor:
    """() whether the result of a step is finite. A gradient that is not finite makes its parameter so too; an infinite mean of squares is also excluded, as it would stop
    the parameter from ever moving again."""
    for name in SQUARES:
        if name in state:
            parameter = parameter + 0.0 * state[name]
    return torch.isfinite(parameter).all()


def midway(state: LoopState) -> LoopState:
    """A state like that in the middle of a run, to test a step with.

    An optimiser's first step can be discontinuous: if a gradient is zero up to rounding, Adam moves by its sign.
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
    """A step of many fits, which share only the columns that are not at the places `own`. It counts as finite as long as one of them is."""

    def steps(*inputs: Any) -> list[Tensor]:
        first = states + rows
        dims = (0,) * first + tuple(0 if place in own else None for place in range(len(inputs) - first))
        *after, values, finite = vmap(step, in_dims=dims)(*inputs)
        taken = inputs[0]
        going = finite & (taken == taken.amax())  # a fit that has stopped has taken fewer steps
        kept = [
            torch.where(going.view(-1, *[1] * (new.dim() - 1)), new, old)
            for new, old in zip(after, inputs[:states], strict=True)
        ]
        return [*kept, torch.where(going, values, torch.nan), going.any()]

    return steps


def guarded(step: Callable[..., list[Tensor]], states: int) -> Callable[..., list[Tensor]]:
    """The step of `side_by_side`, with `going` as for `step_of`.

    Args:
        step: (states, others) → (states, value, finite).
        states: Number of states.
    """

    def once(*inputs: Any, going: Tensor) -> list[Tensor]:
        *after, value, finite = step(*inputs)
        on = going & finite
        kept = [torch.where(on, new, held) for held, new in zip(inputs[:states], after, strict=True)]
        return [*kept, torch.where(on, value, torch.nan), on]

    return once
