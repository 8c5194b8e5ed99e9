"""One optimiser step for kernels that are launched one by one: what one optimiser moves is one vector while it does."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from .capture import Program
from .inline import inlined
from .step import LoopState, inputs_of, sound, with_given
from .update import MOVING, Update

SINGLE = (*MOVING, "counted")  # of an optimiser's state: one number, and not one for each of the parameter's


def flat_step_of(
    program: Program, rules: Mapping[str, Update], like: LoopState, batch_size: int | None, given: Sequence[str] = ()
) -> Callable[..., list[Tensor]]:
    """(going, state, noise, rows, given options, columns) → (state, ELBO, going): the step of `step_of`, but for rounding.

    A dozen of parameters under Adam are some two hundred kernels one by one and a dozen as one vector. A step that is not finite changes nothing, and neither does one
    that is not `going`; where `going` is None, it is taken be it finite or not.

    Args:
        program, rules, like, batch_size, given: As for `step_of`.
    """
    count, graph, groups = len(like.flat()), inlined(program.graph), _groups(rules, like, given)

    def step(going: Tensor | None, *inputs: Any) -> list[Tensor]:
        state, batch, now = inputs_of(like, count, batch_size, given, inputs)
        gradients, value, buffers = graph(state.parameters, state.buffers, *batch)
        steps, before, after = state.steps + 1, [], []
        for names in groups:
            held = [with_given(state.optimizer[name], now) for name in names]
            one = {key: each if key in SINGLE else _flat([h[key] for h in held]) for key, each in held[0].items()}
            before.append((_flat([state.parameters[name] for name in names]), one))
            after.append(rules[names[0]](before[-1][0], -_flat([gradients[name] for name in names]), one, steps))
        finite = torch.stack([torch.isfinite(value).all(), *(sound(*each) for each in after)]).all()
        on = finite if going is None else going & finite

        def kept(new: Tensor, old: Tensor) -> Tensor:
            return new if going is None else torch.where(on, new, old)

        parameters, optimizer = dict(state.parameters), dict(state.optimizer)
        for names, (was, one), (moved, other) in zip(groups, before, after, strict=True):
            shapes = [state.parameters[name].shape for name in names]
            parts = {key: kept(other[key], held) for key, held in one.items()}
            each = {key: [p] * len(names) if key in SINGLE else _split(p, shapes) for key, p in parts.items()}
            for place, (name, value_of) in enumerate(zip(names, _split(kept(moved, was), shapes), strict=True)):
                parameters[name], optimizer[name] = value_of, {key: held[place] for key, held in each.items()}
        buffers = {name: kept(buffer, state.buffers[name]) for name, buffer in buffers.items()}
        return [
            *LoopState(kept(steps, state.steps), parameters, optimizer, buffers).flat(),
            kept(value, value * torch.nan),
            on,
        ]

    return step


def guarded(step: Callable[..., list[Tensor]], states: int) -> Callable[..., list[Tensor]]:
    """`step_of`'s, or `side_by_side`'s, with `going` as `flat_step_of` has it.

    Args:
        step: (states, others) → (states, value, finite).
        states: How many there are.
    """

    def once(going: Tensor, *inputs: Any) -> list[Tensor]:
        *after, value, finite = step(*inputs)
        going = going & finite
        kept = [torch.where(going, new, held) for held, new in zip(inputs[:states], after, strict=True)]
        return [*kept, torch.where(going, value, torch.nan), going]

    return once


def _groups(rules: Mapping[str, Update], like: LoopState, given: Sequence[str]) -> list[list[str]]:
    """Names of the parameters that can be one vector: of one type, moved alike, their optimiser's single numbers the same for all."""
    groups: list[list[str]] = []
    for name, rule in rules.items():
        own = any(key in SINGLE and key not in given for key in like.optimizer[name])

        def alike(other: str, name: str = name, rule: Update = rule, own: bool = own) -> bool:
            same = rules[other] is rule or (rules[other] == rule and not own)
            return same and like.parameters[other].dtype == like.parameters[name].dtype

        found = next((group for group in groups if alike(group[0])), None)
        groups.append([name]) if found is None else found.append(name)
    return groups


def _flat(tensors: Sequence[Tensor]) -> Tensor:
    return torch.cat([tensor.reshape(-1) for tensor in tensors])


def _split(flat: Tensor, shapes: Sequence[torch.Size]) -> list[Tensor]:
    return [part.view(shape) for part, shape in zip(flat.split([s.numel() for s in shapes]), shapes, strict=True)]
