"""A compiled program, called with tensors."""

from __future__ import annotations

import ctypes
import functools
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch._decomp import decomposition_table
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.fx import GraphModule
from torch.fx.passes.fake_tensor_prop import FakeTensorProp

from ... import rng
from ..trace import trace
from .build import CompilerMissing, build, vector_math
from .emit import Source
from .ir import Given, Pointwise, Unsupported, Value
from .lower import Lowering, supported
from .schedule import schedule


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


def compiled_or_why(
    fn: Callable[..., Sequence[Tensor]], examples: Sequence[Tensor], states: int = 0
) -> tuple[Native | None, str | None]:
    """`compile_native`, or why it can't be. Where there is no compiler, it says so once."""
    try:
        native = compile_native(fn, examples, states)
        wrong = _differs(native, fn, examples, states)
    except Unsupported as error:
        return None, f"there is no machine code for {error}"
    except CompilerMissing as error:
        _say_once(f"{error}. Install gcc, or set $CC.")
        return None, str(error)
    except Exception as error:  # a fault of ours must not cost anybody a fit
        wrong = f"making machine code failed: {error!r}"
    if wrong:
        _say_once(f"{wrong}. Please report this, with the model.")
        return None, wrong
    return native, None


def _differs(native: Native, fn: Callable[..., Sequence[Tensor]], examples: Sequence[Tensor], states: int) -> str:
    """How machine code differs from the function that it was made from; empty if by rounding at most."""
    inputs = [*(t.clone(memory_format=torch.contiguous_format) for t in examples[:states]), *examples[states:]]
    outputs = native(*inputs)
    with torch.no_grad(), rng.seeded(0):
        right = fn(*examples)
    coarsest = max((torch.finfo(t.dtype).eps for t in [*examples, *right] if t.is_floating_point()), default=0.0)
    sizes = [_largest(theirs) for theirs in right]
    for number, (mine, theirs) in enumerate(zip([*inputs[:states], *outputs], right, strict=True)):
        # Half of the digits; of what cancels to nothing, none but those that the other numbers leave.
        near = coarsest**0.5 * sizes[number] + 100 * coarsest * max(sizes) if theirs.is_floating_point() else 0.0
        if not torch.allclose(mine, theirs, rtol=0.0, atol=near, equal_nan=True):
            return f"machine code gave other numbers than torch for output {number}"
    return ""


def _largest(tensor: Tensor) -> float:
    if not tensor.is_floating_point() or not tensor.numel():
        return 0.0
    return float(tensor.abs().nan_to_num(posinf=0.0).max())


@functools.cache
def _say_once(reason: str) -> None:
    warnings.warn(
        f"Programs run as torch interprets them, which takes many times as long: {reason}",
        stacklevel=2,
    )


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
        takes: Number and type of the elements of each input.
        results: Shape and type of each output that is no state.
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
        if any((a.shape, a.dtype) != (b.shape, b.dtype) for a, b in zip(inputs[:states], ends, strict=False)):
            raise Unsupported("a state that changes its shape or type")
        written = Source(schedule(ends), inputs, ends, states, vector_math())
        self.source = written.text
        self._states = states
        self.takes = [(t.numel(), t.dtype) for t in examples]
        self.results = [(v.shape, v.dtype) for v in ends[states:]]
        self._library = build(self.source)
        self._entry = ctypes.cast(self._library.program, ctypes.c_void_p).value
        self._size = written.work
        self._work = torch.empty(0, dtype=torch.uint8)

    def __call__(self, *inputs: Tensor) -> list[Tensor]:
        """One run. States are overwritten; what is returned are the other outputs."""
        outputs = [torch.empty(shape, dtype=dtype) for shape, dtype in self.results]
        self.run(1, inputs, outputs)
        return outputs

    def run(
        self, steps: int, inputs: Sequence[Tensor], outputs: Sequence[Tensor], *,
        rows: Sequence[int] = (), reported: Sequence[int] = (), finite: int = -1,
    ) -> int:  # fmt: skip
        """Many runs, each on what the one before left; see `run` for the arguments."""
        return run(steps, [Run(self, inputs, outputs, rows, reported, finite)])

    def _memory(self, copies: int) -> int:
        """Working memory, aligned."""
        if len(self._work) < (needed := copies * self._size + 64):
            self._work = torch.empty(needed, dtype=torch.uint8)
        return self._work.data_ptr() + -self._work.data_ptr() % 64


@dataclass(frozen=True)
class Run:
    """A program with its tensors.

    Attributes:
        inputs: The states among them must be contiguous; they are overwritten.
        outputs: Written to: those that are not states; each step's part of them contiguous.
        rows: Which inputs are stacks with a row for each step of this program.
        reported: Which outputs are stacks with a row for each step.
        finite: Which output says whether to go on; -1: all steps are taken.
    """

    native: Native
    inputs: Sequence[Tensor]
    outputs: Sequence[Tensor]
    rows: Sequence[int] = ()
    reported: Sequence[int] = ()
    finite: int = -1


class _Call(ctypes.Structure):
    _fields_ = [
        ("program", ctypes.c_void_p),
        ("in", ctypes.c_void_p),
        ("out", ctypes.c_void_p),
        ("work", ctypes.c_void_p),
        ("ins", ctypes.c_long),
        ("outs", ctypes.c_long),
        ("forward", ctypes.c_void_p),
        ("back", ctypes.c_void_p),
        ("finite", ctypes.c_long),
    ]


def run(steps: int, runs: Sequence[Run], which: Tensor | None = None) -> int:
    """Many steps in one call.

    Args:
        steps: How many.
        runs: Programs that overwrite the same states.
        which: (steps,) uint8, which of them takes each step; None: the first takes all.

    Returns:
        The number of steps before one that said not to go on.

    Raises:
        IndexError: A program read or wrote beyond an array.
        TypeError: An array is not of the size or type that its program was made for.
    """
    threads = torch.get_num_threads()
    first = runs[0]
    # Steps that do not need each other are shared out; inside, neither a loop nor BLAS starts threads of its own.
    shared = steps > 1 and not first.native._states and first.finite < 0 and which is None
    calls, held = (_Call * len(runs))(), []
    for call, each in zip(calls, runs, strict=True):
        _check(each)
        every = [t.contiguous() for t in (*each.inputs, *each.native._constants)]
        inputs = (ctypes.c_void_p * len(every))(*(t.data_ptr() for t in every))
        outputs = (ctypes.c_void_p * len(each.outputs))(*(t.data_ptr() for t in each.outputs))
        forward = (ctypes.c_long * len(every))(*(_row(t) if i in each.rows else 0 for i, t in enumerate(every)))
        back = [_row(t) if i in each.reported else 0 for i, t in enumerate(each.outputs)]
        backward = (ctypes.c_long * len(back))(*back)
        work = each.native._memory(threads if shared else 1)
        held += [every, inputs, outputs, forward, backward]
        values = (each.native._entry, *map(ctypes.addressof, (inputs, outputs)), work)
        values += (len(every), len(back), *map(ctypes.addressof, (forward, backward)), each.finite)
        for (field, *_), value in zip(_Call._fields_, values, strict=True):
            setattr(call, field, value)
    library = first.native._library
    library.set_threads(threads)
    if shared:
        done = library.map(ctypes.c_long(steps), calls, ctypes.c_long(first.native._size), ctypes.c_int(threads))
    else:
        order = None if which is None else ctypes.c_void_p(which.data_ptr())
        done = library.run(ctypes.c_long(steps), calls, ctypes.c_long(len(runs)), order)
    if done < 0:
        raise IndexError("an index is out of the range of its dimension")
    return int(done)


def _check(run: Run) -> None:
    for i, (tensor, (size, dtype)) in enumerate(zip(run.inputs, run.native.takes, strict=True)):
        if tensor.dtype != dtype or tensor.numel() < size or (tensor.numel() != size and i not in run.rows):
            raise TypeError(
                f"input {i} is {tuple(tensor.shape)} of {tensor.dtype}; the program takes {size} of {dtype}"
            )
    for i, (tensor, (_, dtype)) in enumerate(zip(run.outputs, run.native.results, strict=True)):
        if tensor.dtype != dtype:
            raise TypeError(f"output {i} is of {tensor.dtype}; the program makes {dtype}")


def _row(stack: Tensor) -> int:
    return stack.stride(0) * stack.element_size()
