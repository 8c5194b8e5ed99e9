"""Loop: many optimiser steps, including the choice of minibatches, in one call of one program."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import torch
from torch import Tensor

from .. import rng
from .backends import made_by
from .capture import Program
from .cuda_capture import recorded_or_why
from .cuda_graph import InPlace, Replay
from .joint import ALL, SMALL
from .native import Run, run
from .noise import Noise, draw_noise
from .step import LoopState, guarded, midway, side_by_side, step_of
from .update import Update

R = TypeVar("R")
Stacked = Mapping[int, Tensor] | None
NOT_ASKED = "not asked for"
STEPS, NUMBERS = 1024, 2**22  # maximum number of steps of a recorded graph: as many as have noise drawn together


class Loop:
    """Optimiser steps under a captured program.

    Args:
        program: From `stage`, captured on arguments with the shapes of a step.
        rules: Name of each parameter → the update rule of its optimiser.
        state: A state with the shapes and names of the initial one.
        columns: The whole data: the arguments of model and guide, or the columns from which their rows are taken.
        batch_size: M, rows in a step; None for all rows in every step.
        together: R, the number of fits in parallel: each tensor of the state, noise, rows and values has a leading R. A fit that becomes NaN or infinite
            keeps its last finite state, its values are NaN from then on, and the others continue.
        stacked: Position of a column → (R, …), one for each fit, if they have their own data.
        compiled: Whether to compile it, if possible.
        backend: The back end; see `backends.made_by`.
        seeded: Whether all parts that it will run have a seed; without one, a step that draws random numbers by itself is not compiled.
        given: See `step_of`; the values are in `Part.given`.

    Attributes:
        native: The machine code, if any.
        xla: The XLA program, if any.
        why_not: Why there is neither.
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
        stacked: Stacked = None,
        compiled: bool = True,
        backend: str = "auto",
        seeded: bool = False,
        given: Sequence[str] = (),
    ) -> None:
        own = stacked or {}
        columns = [own.get(place, column) for place, column in enumerate(columns)]
        self._together = () if together is None else (together,)

        def step(joined: float = 0) -> Callable[..., list[Tensor]]:
            one = step_of(program, rules, state, batch_size, given, joined=joined)
            rows = 2 + (batch_size is not None) + bool(given)
            return side_by_side(one, len(state.flat()), rows, own) if together else one

        self._step = step()
        self._columns = tuple(c.contiguous() if isinstance(c, Tensor) else c for c in columns)
        self._states = len(state.flat())
        self.native, self.xla = None, None
        self._graph: Replay | None = None
        self._in_place: InPlace | None = None
        like = next(iter(state.parameters.values()))
        self._recordable = compiled and program.static and like.is_cuda
        self._launched = (
            guarded(self._step, self._states) if together else step(ALL) if self._recordable else self._step
        )
        self.why_not: str | None = None if compiled else NOT_ASKED
        if compiled:
            held = [tensor.expand((*self._together, *tensor.shape)).contiguous() for tensor in midway(state).flat()]
            noise = draw_noise(program.sizes, together or 1, like, rng.stream(0, device=like.device))
            rows = [numbers if together else numbers[0] for numbers in noise]
            if batch_size is not None:
                index = torch.arange(batch_size, device=like.device)
                rows.append(index.expand((*self._together, batch_size)).contiguous())
            if given:
                options = next(held for held in state.optimizer.values() if given[0] in held)
                now = torch.stack([options[name] for name in given])
                rows.append(now.expand((*self._together, len(given))).contiguous())
            examples = [*held, *rows, *self._columns]
            self.native, self.xla, self.why_not = made_by(
                backend if seeded or program.static else "native", self._step, examples, self._states,
                draws=not program.static, check=self._one_of_many, by_xla=lambda: step(SMALL),
            )  # fmt: skip

    def _one_of_many(self, xla: Any, examples: Sequence[Tensor]) -> list[Tensor] | None:
        """State and value after one step, run in the same way as many steps; None if it is not finite."""
        first, last = self._states, len(examples) - len(self._columns)
        states, values = xla.steps(examples[:first], [row[None] for row in examples[first:last]], examples[last:])
        return [*states, values[0]] if len(values) else None

    def _replay(self, state: LoopState, part: Part) -> Replay | None:
        """Takes steps by a CUDA graph, if the state is on a CUDA device and a step draws no random numbers."""
        if not self.recorded:
            return None
        lent, count = part.columns is not None, len(part.noise[0])
        if self._graph is None or self._graph.capacity < count or (lent and not self._graph.lent):
            rows = [stack[0] for stack in part.stacks]
            capacity = max(count, min(STEPS, NUMBERS // max(1, sum(row.numel() for row in rows))))
            self._graph = self._recorded(
                lambda: Replay(
                    self._launched, state.flat(), rows, part.data,
                    together=self._together, capacity=capacity, recorded=True, lent=lent,
                )
            )  # fmt: skip
        return self._graph

    @property
    def recorded(self) -> bool:
        """Whether its steps are a recorded CUDA graph."""
        return self._recordable and not (self.native or self.xla)

    def _recorded(self, make: Callable[[], R]) -> R | None:
        """The recorded graph; None if an operation brings a value to the host. From then on, steps are interpreted."""
        made, why = recorded_or_why(make)
        if made is None:
            self._recordable, self.why_not = False, why
        return made

    def run(
        self, state: LoopState, noise: Noise, index: Tensor | None = None, columns: Sequence[Any] | None = None
    ) -> tuple[LoopState, Tensor]:
        """One step for each row of noise; see `run_loops`.

        Args:
            columns: Columns to use instead of those that the loop was made with.
        """
        return run_loops(state, [Part(self, noise, index, columns)])

    def step(self, state: LoopState, noise: Noise, columns: Sequence[Any]) -> Tensor:
        """Takes one step that overwrites `state`, whether it is finite or not.

        Args:
            noise: (normals,) and (uniforms,).
            columns: Columns to use instead of those that the loop was made with.

        Returns:
            The ELBO before it, () in nats.
        """
        tensors = state.flat()
        inputs = [*tensors, *noise, *columns]
        if (made := self.native or self.xla) is not None:
            value, _ = made(*inputs)
            return value
        if self.recorded:
            if self._in_place is None or not self._in_place.over(tensors):
                self._in_place = self._recorded(lambda: InPlace(self._launched, tensors, [*noise, *columns]))
            if self._in_place:
                return self._in_place(*noise, *columns)[0]
        *after, value, _ = self._step(*inputs)
        with torch.no_grad():
            for held, new in zip(tensors, after, strict=True):
                held.copy_(new)
        return value


@dataclass(frozen=True)
class Part:
    """The steps that one loop takes.

    Attributes:
        loop: The loop.
        noise: (n, normals) and (n, uniforms).
        index: (n, M) row numbers; None if the loop takes all rows.
        columns: Columns to use instead of those that the loop was made with.
        seed: Seed for random numbers other than noise, if XLA draws them.
        given: (n, k) options of the optimiser, if each step has its own.
    """

    loop: Loop
    noise: Noise
    index: Tensor | None = None
    columns: Sequence[Any] | None = None
    seed: int = 0
    given: Tensor | None = None

    @property
    def stacks(self) -> list[Tensor]:
        """The tensors that have a row for each step."""
        return [*self.noise, *(rows for rows in (self.index, self.given) if rows is not None)]

    def rows(self, some: slice) -> Part:
        """A range of its steps."""
        index, given = (None if rows is None else rows[some] for rows in (self.index, self.given))
        return replace(self, noise=(self.noise[0][some], self.noise[1][some]), index=index, given=given)

    @property
    def data(self) -> Sequence[Any]:
        return self.loop._columns if self.columns is None else self.columns


def run_loops(state: LoopState, parts: Sequence[Part], which: Tensor | None = None) -> tuple[LoopState, Tensor]:
    """Takes steps by one loop, or by several that share a state, as needed for minibatches of two sizes.

    Stops before a step whose ELBO, or the parameters after it, would not be finite.

    Args:
        parts: The loops, each with one row for each of its steps.
        which: (n,) uint8, the part that takes each step; None if the first takes all.

    Returns:
        The state after the last step taken, and the ELBO before each step in nats.
    """
    if which is None:
        return _alone(state, parts[0])
    if all(part.loop.native for part in parts):
        return _native(state, parts, which)
    values, taken = [], [0] * len(parts)
    for number, group in itertools.groupby(which.tolist()):
        some = slice(taken[number], taken[number] + len(list(group)))
        taken[number] = some.stop
        state, each = _alone(state, parts[number].rows(some))
        values.append(each)
        if len(each) < some.stop - some.start:
            break
    return state, torch.cat(values)


def _alone(state: LoopState, part: Part) -> tuple[LoopState, Tensor]:
    """Takes steps by one loop: by machine code, XLA, a CUDA graph, or one after the other."""
    if part.loop.native:
        return _native(state, [part], None)
    if xla := part.loop.xla:
        tensors, values = xla.steps(state.flat(), part.stacks, part.data, part.seed)
        return state.filled(tensors), values
    if replay := part.loop._replay(state, part):
        tensors, values = replay.run(state.flat(), part.stacks, part.data)
        return state.filled(tensors), values
    return _one_by_one(state, part)


def _native(state: LoopState, parts: Sequence[Part], which: Tensor | None) -> tuple[LoopState, Tensor]:
    steps = len(parts[0].noise[0]) if which is None else len(which)
    native = parts[0].loop.native
    assert native is not None
    (shape, dtype), _ = native.results
    values = torch.empty(steps, *shape, dtype=dtype, device="cpu")
    reached, done = _in_place(state, steps, parts, which, values)
    if done < steps:  # the last step is undone by repeating all steps except that one
        reached, _ = _in_place(state, done, parts, which, values)
    return reached, values[:done]


def _in_place(
    state: LoopState, steps: int, parts: Sequence[Part], which: Tensor | None, values: Tensor
) -> tuple[LoopState, int]:
    tensors = [tensor.clone(memory_format=torch.contiguous_format) for tensor in state.flat()]
    outputs = [values, torch.empty(1, dtype=torch.bool, device="cpu")]
    runs = []
    for part in parts:
        assert part.loop.native is not None
        rows = range(len(tensors), len(tensors) + len(part.stacks))
        runs.append(Run(part.loop.native, [*tensors, *part.stacks, *part.data], outputs, rows, reported=[0], finite=1))
    done = run(steps, runs, which)
    return state.filled(tensors), done


def _one_by_one(state: LoopState, part: Part) -> tuple[LoopState, Tensor]:
    values = []
    for rows in zip(*part.stacks, strict=True):
        try:
            *after, value, finite = part.loop._step(*state.flat(), *rows, *part.data)
        except torch.linalg.LinAlgError:  # in one of several fits; torch does not say in which
            if part.loop._together:
                raise
            break
        if not finite:
            break
        state = state.filled(after)
        values.append(value)
    return state, torch.stack(values) if values else part.noise[0].new_empty(0, *part.loop._together)
