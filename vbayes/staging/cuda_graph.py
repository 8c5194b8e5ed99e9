"""Steps on a CUDA device: recorded graphs of kernels that are launched again, without transfers in between."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.distributions import Distribution

from ..errors import VBayesError
from .cuda_capture import recorded
from .recordable import Unchecked, recordable
from .trace import trace

CHAIN = 8  # steps in a graph: from one to the next, states are not copied
FUSED = 100_000  # steps of a training after which torch's compiler fuses kernels: it takes as long as these do, so that no training takes twice as long for it

NO_GRAPHS: dict[str, Any] = {"triton.cudagraphs": False}  # of torch's compiler itself, inside of ours

Step = Callable[..., Sequence[Tensor]]


class InPlace:
    """A step that overwrites its states in place, whether it is finite or not, as a CUDA graph; without states, a pure function.

    Args:
        step: (states, inputs) → (states, others), pure.
        states: The tensors that are overwritten.
        inputs: Tensors of the shapes that it is called with, on any device.
    """

    def __init__(self, step: Step, states: Sequence[Tensor], inputs: Sequence[Tensor]) -> None:
        device = (*states, *inputs)[0].device
        self.states, self._inputs = list(states), [tensor.to(device, copy=True) for tensor in inputs]
        given = [*self.states, *self._inputs]
        with Unchecked():
            self._step, self._others = recordable(trace(step, *given), given), list[Tensor]()
        before = [tensor.clone() for tensor in states]
        try:
            (self._launch,) = recorded(self._once, device=device)
        finally:  # the runs before recording, too, have overwritten them
            _copy(self.states, before)

    def _once(self) -> None:
        with torch.no_grad():
            made = self._step(*self.states, *self._inputs)
            _copy(self.states, made)
        self._others = list(made[len(self.states) :])

    def over(self, states: Sequence[Tensor]) -> bool:
        """Whether these are the tensors that it overwrites."""
        return all(mine is theirs for mine, theirs in zip(self.states, states, strict=True))

    def __call__(self, *inputs: Tensor) -> list[Tensor]:
        """Takes one step; returns the outputs other than the states."""
        _copy(self._inputs, inputs)
        self._launch()
        return [tensor.clone() for tensor in self._others]


class Replay:
    """A step whose inputs and outputs keep their addresses on the device.

    A step that is not finite changes nothing, nor do all steps after it, so the host need not check before the end.

    Args:
        step: (states, rows, columns, going=) → (states, value, going), pure, as `step_of` makes it.
        states, rows, columns: Of the shapes that it is called with.
        together: Leading dimensions of the value.
        capacity: Steps in one call, at most.
        recorded: Record it as a CUDA graph; otherwise run it as it is, which any device can.
        lent: Whether each call passes its own columns, which are copied; otherwise `columns` are used.
    """

    def __init__(
        self,
        step: Step,
        states: Sequence[Tensor],
        rows: Sequence[Tensor],
        columns: Sequence[Any],
        *,
        together: tuple[int, ...] = (),
        capacity: int,
        recorded: bool,
        lent: bool = False,
    ) -> None:
        # The value that a step reports has the type of the parameters, which may differ from that of the noise.
        self._going = torch.ones((), dtype=torch.bool, device=states[0].device)
        with Unchecked():
            *_, value, _ = step(*states, *rows, *columns, going=self._going)
        self._step, self.capacity, self.lent = step, capacity, lent
        here = self._going.device
        self._columns = [column.to(here, copy=True) for column in columns] if lent else list(columns)
        self._states = [tensor.clone() for tensor in states]
        self._stacks = [row.expand(capacity, *row.shape).clone() for row in rows]
        self._values = value.new_empty(capacity, *together)
        self._number = torch.zeros(1, dtype=torch.int64, device=value.device)
        self._fused = not recorded
        self._guarded: Step = self._on_rows
        self._one, self._chain = (lambda: self._take(1)), (lambda: self._take(CHAIN))
        if recorded:
            with Unchecked():
                self._guarded = recordable(trace(self._on_rows, *self._inputs), self._inputs)
            self._record()

    @property
    def _inputs(self) -> list[Tensor]:
        return [self._number, self._going, *self._states, *self._stacks, *self._columns]

    def _record(self) -> None:
        one, chain = (lambda: self._take(1)), (lambda: self._take(CHAIN))
        self._one, self._chain = recorded(one, chain, device=self._number.device)

    def _on_rows(self, number: Tensor, going: Tensor, *inputs: Tensor) -> list[Tensor]:
        """A step on the rows with that number in the stacks."""
        count, stacks = len(self._states), len(self._states) + len(self._stacks)
        states, columns = inputs[:count], inputs[stacks:]
        rows = [stack.index_select(0, number)[0] for stack in inputs[count:stacks]]
        return [*self._step(*states, *rows, *columns, going=going), (number + 1).clamp(max=self.capacity - 1)]

    def _take(self, count: int) -> None:
        states, going, number = self._states, self._going, self._number
        for _ in range(count):
            *states, value, going, following = self._guarded(number, going, *states, *self._stacks, *self._columns)
            self._values.index_copy_(0, number, value[None])
            number = following
        _copy([*self._states, self._going, self._number], [*states, going, number])

    def _fuse(self) -> None:
        """Has torch's compiler fuse the kernels, where it can."""
        validated, plain = Distribution._validate_args, self._guarded
        self._fused = True
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch's own, of its parts that are old, and of TF32
            try:
                # A graph of its own: torch counts the programs of one Python function, and compiles eight at most.
                self._guarded = torch.compile(trace(plain, *self._inputs), dynamic=False, options=NO_GRAPHS)
                self._take(1)
                self._record()
            except VBayesError:  # CUDA can't be used any more
                raise
            except Exception:  # whatever its compiler raises on an operation that it does not know
                self._guarded = plain
            finally:
                Distribution._validate_args = validated  # torch.compile turns it off for the whole process

    def run(
        self, states: Sequence[Tensor], stacks: Sequence[Tensor], columns: Sequence[Tensor] = ()
    ) -> tuple[list[Tensor], Tensor]:
        """One step for each row of the stacks, or fewer.

        Args:
            states: The first counts the steps of the training.
            stacks: With a row for each step.
            columns: Where they are lent.

        Returns:
            The states after the last step that was taken, and the values of each of those.
        """
        steps, left = len(stacks[0]), FUSED
        if not self._fused:  # by its number of steps, and not by how they were divided into calls
            left = FUSED - int(states[0].max())
            if left <= 0:
                self._fuse()
            elif left < steps:
                reached, values = self.run(states, [stack[:left] for stack in stacks], columns)
                if len(values) < left:
                    return reached, values
                reached, others = self.run(reached, [stack[left:] for stack in stacks], columns)
                return reached, torch.cat([values, others])
        _copy(self._states, states)
        _copy([stack[:steps] for stack in self._stacks], stacks)
        if self.lent:
            _copy(self._columns, columns)
        self._number.zero_()
        self._going.fill_(True)
        for launch, times in ((self._chain, steps // CHAIN), (self._one, steps % CHAIN)):
            for _ in range(times):
                launch()
        values = self._values[:steps].clone()
        taken = int(values.isfinite().reshape(steps, -1).any(1).sum())
        return [tensor.clone() for tensor in self._states], values[:taken]


def _copy(into: Sequence[Tensor], given: Sequence[Tensor]) -> None:
    for held, new in zip(into, given, strict=False):
        held.copy_(new)
