"""A compiled program, called with tensors."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from .build import program
from .passes import Translation


class Native:
    """A program in machine code.

    Args:
        translation: What the passes made of it.

    Attributes:
        source: Its C.
        states: The first so many inputs are overwritten with the first as many outputs, for the next run.
        takes: Number and type of the elements of each input.
        results: Shape and type of each output that is no state.
    """

    def __init__(self, translation: Translation) -> None:
        graph = translation.folded
        self.translation, self.source = translation, translation.source
        self.states = graph.states
        self.takes = [(v.size, v.dtype) for v in graph.inputs]
        self.results = [(v.shape, v.dtype) for v in graph.outputs[graph.states :]]
        self._constants = [c.constant for c in graph.constants if c.constant is not None]
        self._library = program(self.source)
        self._entry = ctypes.cast(self._library.program, ctypes.c_void_p).value
        self._size = translation.layout.work
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
        ZeroDivisionError: A program divided an integer by zero. (torch has a RuntimeError for it, with this name in it.)
        TypeError: An array is not of the size or type that its program was made for.
    """
    threads = torch.get_num_threads()
    first = runs[0]
    # Independent steps are divided among threads; inside, neither loops nor BLAS start further threads.
    shared = steps > 1 and not first.native.states and first.finite < 0 and which is None
    calls, held = (_Call * len(runs))(), []
    for call, each in zip(calls, runs, strict=True):
        _check(each)
        every = [t.contiguous() for t in (*each.inputs, *each.native._constants)]
        inputs = (ctypes.c_void_p * len(every))(*[t.data_ptr() for t in every])
        outputs = (ctypes.c_void_p * len(each.outputs))(*[t.data_ptr() for t in each.outputs])
        forward = (ctypes.c_long * len(every))(*[_row(t) if i in each.rows else 0 for i, t in enumerate(every)])
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
    if done == -2:
        raise ZeroDivisionError("an integer is divided by zero")
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
