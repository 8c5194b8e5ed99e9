"""Steps on a CUDA device: one recorded graph of kernels, launched again for each step, with nothing sent in between."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.distributions import Distribution

from .trace import trace

WARM = 3  # runs before recording: libraries set themselves up in the first


class Replay:
    """A step whose inputs and outputs stay where they are on the device.

    A step that is not finite, and all after it, change nothing: so the host need not look before the end.

    Args:
        step: (states, rows, columns) → (states, value, finite), pure.
        states, rows, columns: Of the shapes that it is called with.
        together: Leading dimensions of the value.
        capacity: Steps in one call, at most.
        recorded: Compile the step and record it as a CUDA graph; otherwise run it as it is, which any device can.
    """

    def __init__(
        self,
        step: Callable[..., list[Tensor]],
        states: Sequence[Tensor],
        rows: Sequence[Tensor],
        columns: Sequence[Any],
        *,
        together: tuple[int, ...] = (),
        capacity: int,
        recorded: bool,
    ) -> None:
        # What a step reports is in the type of the parameters, be the noise in another.
        *_, value, _ = step(*states, *rows, *columns)
        self._step, self._columns, self.capacity = step, columns, capacity
        self._states = [tensor.clone() for tensor in states]
        self._stacks = [row.new_zeros(capacity, *row.shape) for row in rows]
        self._values = value.new_empty(capacity, *together)
        self._number = torch.zeros(1, dtype=torch.int64, device=value.device)
        self._going = torch.ones((), dtype=torch.bool, device=value.device)
        self._graph: torch.cuda.CUDAGraph | None = None
        if recorded:
            self._record()

    def _record(self) -> None:
        validated = Distribution._validate_args
        try:
            self._compile()
            aside = torch.cuda.Stream()
            aside.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(aside):
                for _ in range(WARM):
                    self._once()
            torch.cuda.current_stream().wait_stream(aside)
            self._graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(self._graph):
                self._once()
        finally:
            Distribution._validate_args = validated  # torch.compile turns it off for the whole process

    def _compile(self) -> None:
        """Has torch's compiler fuse the kernels, where it can; what it can't is recorded as it is."""
        plain, rows = self._step, [stack[0] for stack in self._stacks]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch's own, of its parts that are old, and of TF32
            try:
                # A graph of its own: torch counts the programs of one Python function, and compiles eight at most.
                self._step = torch.compile(trace(plain, *self._states, *rows, *self._columns), dynamic=False)
                self._once()
            except Exception:  # whatever its compiler raises on an operation that it does not know
                self._step = plain

    def _once(self) -> None:
        rows = [stack.index_select(0, self._number)[0] for stack in self._stacks]
        *after, value, finite = self._step(*self._states, *rows, *self._columns)
        going = self._going & finite
        for held, new in zip(self._states, after, strict=True):
            held.copy_(torch.where(going, new, held))
        self._values.index_copy_(0, self._number, torch.where(going, value, torch.nan)[None])
        self._going.copy_(going)
        self._number.add_(1).clamp_(max=self.capacity - 1)

    def run(self, states: Sequence[Tensor], stacks: Sequence[Tensor]) -> tuple[list[Tensor], Tensor]:
        """One step for each row of the stacks, or fewer.

        Returns:
            The states after the last step that was taken, and the values of each of those.
        """
        steps = len(stacks[0])
        for held, given in zip(self._states, states, strict=True):
            held.copy_(given)
        for stack, rows in zip(self._stacks, stacks, strict=True):
            stack[:steps].copy_(rows)
        self._number.zero_()
        self._going.fill_(True)
        for _ in range(steps):
            if self._graph is None:
                self._once()
            else:
                self._graph.replay()
        values = self._values[:steps].clone()
        taken = int(values.isfinite().reshape(steps, -1).any(1).sum())
        return [tensor.clone() for tensor in self._states], values[:taken]
