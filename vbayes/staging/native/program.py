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
from torch.fx.experimental.proxy_tensor import make_fx
from torch.fx.passes.fake_tensor_prop import FakeTensorProp

from ... import rng
from .build import build, vector_math
from .lower import Lowering, supported
from .schedule import schedule
from .source import Source
from .values import Given, Pointwise, Value


def compile_native(fn: Callable[..., Sequence[Tensor]], examples: Sequence[Tensor]) -> Native:
    """A function of tensors as machine code.

    Args:
        fn: Takes tensors, returns a sequence of them; pure, of static shapes, on the CPU.
        examples: Tensors of the shapes and types that it will be called with.

    Raises:
        Unsupported: An operation that there is no C for.
        CompilerMissing: No C compiler, or it fails.
    """
    return Native(simplified(fn, examples), examples)


def simplified(fn: Callable[..., Sequence[Tensor]], examples: Sequence[Tensor]) -> GraphModule:
    """The graph of a function, without mutation, and in operations that have a C form as far as possible."""
    table = {op: rule for op, rule in decomposition_table.items() if not _kept(op)}
    with rng.seeded(0):  # to capture is to run
        return _simplified(fn, examples, table)


def _simplified(fn: Callable[..., Sequence[Tensor]], examples: Sequence[Tensor], table: dict[Any, Any]) -> GraphModule:
    # First gradients, which are not taken inside functionalize, and normalisation layers, whose rules mutate.
    mutating = {op: rule for op, rule in table.items() if "batch_norm" in str(op)}
    captured = make_fx(lambda *inputs: list(fn(*inputs)), decomposition_table=mutating)(*examples)
    functional = torch.func.functionalize(captured, remove="mutations")
    graph = make_fx(functional, decomposition_table=table)(*examples)
    graph.graph.eliminate_dead_code()
    FakeTensorProp(graph, FakeTensorMode(allow_non_fake_inputs=True)).propagate(*examples)
    return graph


def _kept(op: Any) -> bool:
    return isinstance(op, torch._ops.OpOverload) and op.namespace in ("aten", "prims") and supported(op)


class Native:
    """A program in machine code.

    Args:
        graph: Of ATen operations; see `simplified`.
        examples: Of its inputs.

    Attributes:
        source: Its C.
    """

    def __init__(self, graph: GraphModule, examples: Sequence[Tensor]) -> None:
        lowered = Lowering(graph)
        ends: list[Value] = []
        for view in lowered.outputs:  # each output an array of its own, contiguous
            value = view.value
            whole = view.is_whole and view.shape == value.shape
            if not whole or isinstance(value, Given) or value in ends:
                value = Pointwise(view.shape, value.dtype, [view], types=[value.dtype])
            ends.append(value)
        self._constants = [c.constant.contiguous() for c in lowered.constants if c.constant is not None]
        inputs: list[Value] = [*lowered.inputs, *lowered.constants]
        written = Source(schedule(ends), inputs, ends, vector_math())
        self.source = written.text
        self._shapes = [(tuple(t.shape), t.dtype) for t in examples]
        self._results = [(v.shape, v.dtype) for v in ends]
        self._library = build(self.source)
        self._work = torch.empty(written.work + 64, dtype=torch.uint8)

    def __call__(self, *inputs: Tensor) -> list[Tensor]:
        """One run."""
        outputs = [torch.empty(shape, dtype=dtype) for shape, dtype in self._results]
        self.run(1, inputs, outputs)
        return outputs

    def run(
        self,
        steps: int,
        inputs: Sequence[Tensor],
        outputs: Sequence[Tensor],
        *,
        states: int = 0,
        rows: Sequence[int] = (),
        reported: Sequence[int] = (),
        finite: int = -1,
    ) -> int:
        """Many runs, each on what the one before left.

        Args:
            steps: How many.
            inputs: The first `states` of them are what the first as many outputs are for the next step.
            outputs: Written to. After an even number of steps the last state is in the inputs, else in the outputs.
            states: How many arrays are handed from step to step.
            rows: Which inputs are stacks with a row for each step.
            reported: Which outputs are such stacks.
            finite: Which output says that the step may be taken; -1: all may.

        Returns:
            The number of steps taken.

        Raises:
            IndexError: The program read or wrote beyond an array.
        """
        every = [t.contiguous() for t in (*inputs, *self._constants)]
        where = (ctypes.c_void_p * len(every))(*(t.data_ptr() for t in every))
        to = (ctypes.c_void_p * len(outputs))(*(t.data_ptr() for t in outputs))
        forward = (ctypes.c_long * len(every))(*(_row(t) if i in rows else 0 for i, t in enumerate(every)))
        back = (ctypes.c_long * len(outputs))(*(_row(t) if i in reported else 0 for i, t in enumerate(outputs)))
        work = self._work.data_ptr() + -self._work.data_ptr() % 64
        self._library.set_threads(torch.get_num_threads())
        counts = (ctypes.c_long(n) for n in (states, len(every), len(outputs)))
        done = self._library.run(
            ctypes.c_long(steps), where, to, ctypes.c_void_p(work), *counts, forward, back, ctypes.c_long(finite)
        )
        if done < 0:
            raise IndexError("an index is out of the range of its dimension")
        return int(done)


def _row(stack: Tensor) -> int:
    return stack[0].numel() * stack.element_size()
