"""A compiled program, called with tensors."""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch._decomp import decomposition_table
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.fx import GraphModule
from torch.fx.passes.fake_tensor_prop import FakeTensorProp

from ... import rng
from ..trace import trace
from .build import build, vector_math
from .lower import Lowering, supported
from .schedule import schedule
from .source import Source
from .values import Given, Pointwise, Value


def compile_native(fn: Callable[..., Sequence[Tensor]], examples: Sequence[Tensor], states: int = 0) -> Native:
    """A function of tensors as machine code.

    Args:
        fn: Takes tensors, returns a sequence of them; pure, of static shapes, on the CPU.
        examples: Tensors of the shapes and types that it will be called with.
        states: The first so many inputs are overwritten with the first as many outputs, for the next run.

    Raises:
        Unsupported: An operation that there is no C for.
        CompilerMissing: No C compiler, or it fails.
    """
    return Native(simplified(fn, examples), examples, states)


def simplified(fn: Callable[..., Sequence[Tensor]], examples: Sequence[Tensor]) -> GraphModule:
    """The graph of a function, without mutation, and in operations that have a C form as far as possible."""
    table = {op: rule for op, rule in decomposition_table.items() if not _kept(op)}
    with rng.seeded(0):  # to trace is to run
        graph = trace(lambda *inputs: list(fn(*inputs)), *examples, decompositions=table)
        if any(_mutates(node.target) for node in graph.graph.nodes):
            # First gradients, which are not taken inside functionalize, and normalisation layers, whose rules mutate.
            mutating = {op: rule for op, rule in table.items() if "batch_norm" in str(op)}
            captured = trace(lambda *inputs: list(fn(*inputs)), *examples, decompositions=mutating)
            functional = torch.func.functionalize(captured, remove="mutations")
            graph = trace(functional, *examples, decompositions=table)
        graph.graph.eliminate_dead_code()
        FakeTensorProp(graph, FakeTensorMode(allow_non_fake_inputs=True)).propagate(*examples)
    return graph


def _mutates(op: Any) -> bool:
    return isinstance(op, torch._ops.OpOverload) and op._schema.is_mutable


def _kept(op: Any) -> bool:
    return isinstance(op, torch._ops.OpOverload) and op.namespace in ("aten", "prims") and supported(op)


class Native:
    """A program in machine code.

    Args:
        graph: Of ATen operations; see `simplified`.
        examples: Of its inputs.
        states: See `compile_native`.

    Attributes:
        source: Its C.
    """

    def __init__(self, graph: GraphModule, examples: Sequence[Tensor], states: int = 0) -> None:
        lowered = Lowering(graph)
        ends: list[Value] = []
        for number, view in enumerate(lowered.outputs):  # each output an array of its own, contiguous
            value = view.value
            whole = view.is_whole and view.shape == value.shape
            stays = number < states and value is lowered.inputs[number]
            if not whole or value in ends or (isinstance(value, Given) and not stays):
                value = Pointwise(view.shape, value.dtype, [view], types=[value.dtype])
            ends.append(value)
        self._constants = [c.constant.contiguous() for c in lowered.constants if c.constant is not None]
        inputs: list[Value] = [*lowered.inputs, *lowered.constants]
        written = Source(schedule(ends), inputs, ends, states, vector_math())
        self.source = written.text
        self._states = states
        self._results = [(v.shape, v.dtype) for v in ends[states:]]
        self._library = build(self.source)
        self._size = written.work
        self._work = torch.empty(0, dtype=torch.uint8)

    def __call__(self, *inputs: Tensor) -> list[Tensor]:
        """One run. States are overwritten; what is returned are the other outputs."""
        outputs = [torch.empty(shape, dtype=dtype) for shape, dtype in self._results]
        self.run(1, inputs, outputs)
        return outputs

    def run(
        self,
        steps: int,
        inputs: Sequence[Tensor],
        outputs: Sequence[Tensor],
        *,
        rows: Sequence[int] = (),
        reported: Sequence[int] = (),
        finite: int = -1,
    ) -> int:
        """Many runs, each on what the one before left.

        Args:
            steps: How many.
            inputs: The states among them must be contiguous; they are overwritten.
            outputs: Written to: those that are not states; each step's part of them contiguous.
            rows: Which inputs are stacks with a row for each step.
            reported: Which outputs are such stacks.
            finite: Which output says whether to go on; -1: all steps are taken.

        Returns:
            The number of steps after which it was told to go on.

        Raises:
            IndexError: The program read or wrote beyond an array.
        """
        every = [t.contiguous() for t in (*inputs, *self._constants)]
        where = (ctypes.c_void_p * len(every))(*(t.data_ptr() for t in every))
        to = (ctypes.c_void_p * len(outputs))(*(t.data_ptr() for t in outputs))
        forward = (ctypes.c_long * len(every))(*(_row(t) if i in rows else 0 for i, t in enumerate(every)))
        back = (ctypes.c_long * len(outputs))(*(_row(t) if i in reported else 0 for i, t in enumerate(outputs)))
        threads = torch.get_num_threads()
        counts = ctypes.c_long(len(every)), ctypes.c_long(len(outputs))
        self._library.set_threads(threads)
        if steps > 1 and not self._states and finite < 0:
            # Each thread does whole steps; inside, neither a loop nor BLAS starts threads of its own.
            size = ctypes.c_long(self._size)
            done = self._library.map(
                ctypes.c_long(steps),
                where,
                to,
                self._memory(threads),
                size,
                *counts,
                forward,
                back,
                ctypes.c_int(threads),
            )
        else:
            done = self._library.run(
                ctypes.c_long(steps), where, to, self._memory(1), *counts, forward, back, ctypes.c_long(finite)
            )
        if done < 0:
            raise IndexError("an index is out of the range of its dimension")
        return int(done)

    def _memory(self, copies: int) -> ctypes.c_void_p:
        """Working memory, aligned."""
        if len(self._work) < (needed := copies * self._size + 64):
            self._work = torch.empty(needed, dtype=torch.uint8)
        return ctypes.c_void_p(self._work.data_ptr() + -self._work.data_ptr() % 64)


def _row(stack: Tensor) -> int:
    return stack.stride(0) * stack.element_size()
