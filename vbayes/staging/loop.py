"""Loop: many optimiser steps as one call of one program, minibatches and all."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from .capture import Program, Tensors
from .native import CompilerMissing, Native, Unsupported, compile_native
from .noise import Noise
from .update import State, Update


@dataclass(frozen=True)
class LoopState:
    """Where training stands.

    Attributes:
        steps: () float64, optimiser steps taken.
        parameters: Name → unconstrained value.
        optimizer: Name → the optimiser's state for this parameter.
        buffers: Name → value, of the modules' buffers.
    """

    steps: Tensor
    parameters: Tensors
    optimizer: dict[str, State]
    buffers: Tensors

    def flat(self) -> list[Tensor]:
        """All of it, in one order."""
        states = [tensor for state in self.optimizer.values() for tensor in state.values()]
        return [self.steps, *self.parameters.values(), *states, *self.buffers.values()]

    def filled(self, tensors: Sequence[Tensor]) -> LoopState:
        """The same names over other tensors."""
        left = iter(tensors)
        steps = next(left)
        parameters = {k: next(left) for k in self.parameters}
        optimizer = {k: {name: next(left) for name in state} for k, state in self.optimizer.items()}
        return replace(
            self, steps=steps, parameters=parameters, optimizer=optimizer, buffers={k: next(left) for k in self.buffers}
        )


class Loop:
    """Optimiser steps under a captured program.

    Args:
        program: From `stage`, captured on arguments of the shapes that a step sees.
        rules: Name of each parameter → what its optimiser does.
        state: Of the shapes and names that it starts from.
        columns: The whole data: what model and guide are called with, or where their rows are taken from.
        batch_size: M, rows in a step; None: all of the columns in every step.
        together: R fits in one: each tensor of the state, noise, rows and values has a leading R. One of them that leaves the
            reals stays where it was, its values NaN from there on, and the others go on.
        compiled: Compile it, if it can be.

    Attributes:
        native: The machine code; None where there is none.
        why_not: Why there is none.
    """

    def __init__(
        self,
        program: Program,
        rules: Mapping[str, Update],
        state: LoopState,
        columns: Sequence[Any],
        batch_size: int | None = None,
        *,
        together: int | None = None,
        compiled: bool = True,
    ) -> None:
        self._step = _step(program, rules, state, batch_size)
        self._together = () if together is None else (together,)
        if together:
            self._step = _side_by_side(self._step, len(state.flat()), 2 + (batch_size is not None))
        self._columns = tuple(columns)
        self._states = len(state.flat())
        self._rows = 2 if batch_size is None else 3
        self.native: Native | None = None
        self.why_not: str | None = None if compiled else "not asked for"
        like = next(iter(state.parameters.values()))
        if not program.static:
            self.why_not = "some of its random numbers are not made of normals and uniforms"
        elif like.device.type != "cpu":
            self.why_not = "there is machine code for tensors on the CPU only"
        elif compiled:
            held = [tensor.expand((*self._together, *tensor.shape)).contiguous() for tensor in state.flat()]
            rows = [like.new_zeros(*self._together, size) for size in program.sizes]
            if batch_size is not None:
                rows.append(torch.zeros(*self._together, batch_size, dtype=torch.int64))
            try:
                self.native = compile_native(self._step, [*held, *rows, *self._columns], self._states)
            except (Unsupported, CompilerMissing) as error:
                self.why_not = str(error)

    def run(
        self, state: LoopState, noise: Noise, index: Tensor | None = None, columns: Sequence[Any] | None = None
    ) -> tuple[LoopState, Tensor]:
        """One step for each row of noise, or fewer: a step whose ELBO is not finite, or would lead to parameters that are not, is not taken.

        Args:
            noise: (n, normals) and (n, uniforms).
            index: (n, M) row numbers; None if the loop takes all rows.
            columns: In place of those that the loop was made with.

        Returns:
            The state after the last step that was taken, and the ELBO of each of those in nats, before its step.
        """
        stacks = [*noise] if index is None else [*noise, index]
        given = self._columns if columns is None else columns
        if self.native is None:
            return self._one_by_one(state, stacks, given)
        steps = len(stacks[0])
        values = stacks[0].new_empty(steps, *self._together)
        reached, done = self._in_place(state, steps, stacks, given, values)
        if done < steps:  # what the last one did is undone by doing all but that one again
            reached, _ = self._in_place(state, done, stacks, given, values)
        return reached, values[:done]

    def _in_place(
        self, state: LoopState, steps: int, stacks: list[Tensor], columns: Sequence[Any], values: Tensor
    ) -> tuple[LoopState, int]:
        assert self.native is not None
        tensors = [tensor.clone(memory_format=torch.contiguous_format) for tensor in state.flat()]
        done = self.native.run(
            steps,
            [*tensors, *stacks, *columns],
            [values, torch.empty(1, dtype=torch.bool)],
            rows=range(self._states, self._states + self._rows),
            reported=[0],
            finite=1,
        )
        return state.filled(tensors), done

    def step(self, state: LoopState, noise: Noise, columns: Sequence[Any]) -> Tensor:
        """One step that overwrites `state`, be it finite or not.

        Args:
            noise: (normals,) and (uniforms,).
            columns: In place of those that the loop was made with.

        Returns:
            The ELBO before it, () in nats.
        """
        tensors = state.flat()
        inputs = [*tensors, *noise, *columns]
        if self.native is not None:
            value, _ = self.native(*inputs)
            return value
        *after, value, _ = self._step(*inputs)
        with torch.no_grad():
            for held, new in zip(tensors, after, strict=True):
                held.copy_(new)
        return value

    def _one_by_one(self, state: LoopState, stacks: list[Tensor], columns: Sequence[Any]) -> tuple[LoopState, Tensor]:
        tensors, values = state.flat(), []
        for rows in zip(*stacks, strict=True):
            *after, value, finite = self._step(*tensors, *rows, *columns)
            if not finite:
                break
            tensors = after
            values.append(value)
        return state.filled(tensors), torch.stack(values) if values else stacks[0].new_empty(0, *self._together)


def _step(
    program: Program, rules: Mapping[str, Update], like: LoopState, batch_size: int | None
) -> Callable[..., list[Tensor]]:
    """(state, noise, rows, columns) → (state, ELBO, whether it and the parameters are finite)."""
    count = len(like.flat())

    def step(*inputs: Any) -> list[Tensor]:
        state = like.filled(inputs[:count])
        normals, uniforms, *args = inputs[count:]
        if batch_size is not None:
            index, *columns = args
            args = [column.index_select(0, index) for column in columns]
        gradients, value, buffers = program.graph(state.parameters, state.buffers, (normals, uniforms), tuple(args))
        steps = state.steps + 1
        moved = {
            name: rules[name](parameter, -gradients[name], state.optimizer[name], steps)
            for name, parameter in state.parameters.items()
        }
        # A sum of sizes is finite if all of them are; what is not finite in a gradient is not in the parameter either.
        size = torch.stack([parameter.abs().sum() for parameter, _ in moved.values()]).sum()
        after = LoopState(steps, {k: p for k, (p, _) in moved.items()}, {k: s for k, (_, s) in moved.items()}, buffers)
        return [*after.flat(), value, torch.isfinite(value) & torch.isfinite(size)]

    return step


def _side_by_side(step: Callable[..., list[Tensor]], states: int, rows: int) -> Callable[..., list[Tensor]]:
    """A step of many fits, all but the columns their own. It is finite as long as one of them is."""

    def steps(*inputs: Any) -> list[Tensor]:
        dims = (0,) * (states + rows) + (None,) * (len(inputs) - states - rows)
        *after, values, finite = torch.vmap(step, in_dims=dims)(*inputs)
        taken = inputs[0]
        going = finite & (taken == taken.amax())  # who stopped once has taken fewer
        kept = [
            torch.where(going.view(-1, *[1] * (new.dim() - 1)), new, old)
            for new, old in zip(after, inputs[:states], strict=True)
        ]
        return [*kept, torch.where(going, values, torch.nan), going.any()]

    return steps
