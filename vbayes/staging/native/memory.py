"""Memory: which values are stored, and where each of them lies."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from .ir import Pointwise, Reduction, Value
from .schedule import Kernel, Schedule, real

LINE = 64  # bytes of a line of the processor's cache


@dataclass(frozen=True)
class Place:
    """Where an array lies.

    Attributes:
        area: "in", "out" (arrays of the caller) or "work".
        at: Its number among the caller's; in working memory the bytes before it.
    """

    area: str
    at: int


@dataclass(frozen=True, eq=False)
class Layout:
    """A program with its memory.

    Attributes:
        schedule: What is made, in which order.
        stored: The values that are written to memory; others live in a loop's variables only.
        overwrites: New state → old state, where the new one is written in place of the old one.
        places: Of inputs, outputs and stored values.
        moves: (new state, old state) of those that are copied when all else is done.
        work: Bytes of working memory.
    """

    schedule: Schedule
    stored: frozenset[Value]
    overwrites: Mapping[Value, Value]
    places: Mapping[Value, Place]
    moves: tuple[tuple[Value, Value], ...]
    work: int


def lay_out(schedule: Schedule) -> Layout:
    """Places for all that is stored: arrays of the caller, and working memory, which is used again and again."""
    graph, kernels = schedule.graph, schedule.kernels
    stored = _stored(kernels, graph.outputs)
    states = list(zip(graph.outputs[: graph.states], graph.inputs, strict=False))
    changed = {new: old for new, old in states if new is not old}
    overwrites = {new: old for new, old in changed.items() if _may_overwrite(new, old, kernels)}
    places = {v: Place("out", i) for i, v in enumerate(graph.outputs[graph.states :])}
    places |= {v: Place("in", i) for i, v in enumerate((*graph.inputs, *graph.constants))}
    places |= {new: places[old] for new, old in overwrites.items()}
    work, size = _working_memory(kernels, stored - places.keys(), until_the_end=changed)
    places |= {v: Place("work", at) for v, at in work.items()}
    moves = tuple((new, old) for new, old in changed.items() if new not in overwrites)
    return Layout(schedule, stored, overwrites, places, moves, size)


def in_step(reader: Value, kernel: Kernel) -> bool:
    """Whether a reader reads an operand that is whole just where the loops are, and not elsewhere too."""
    return kernel.domain is not None and isinstance(reader, (Pointwise, Reduction))


def room(value: Value) -> int:
    """Bytes that it takes, in whole lines."""
    return -(-max(1, value.size) * value.dtype.itemsize // LINE) * LINE


def _stored(kernels: Iterable[Kernel], outputs: Iterable[Value]) -> frozenset[Value]:
    """Values that are read by another kernel, or at other elements than they are computed at."""
    stored = set(outputs)
    for kernel in kernels:
        for value in kernel.values:
            if isinstance(value, Reduction) or kernel.domain is None:
                stored.add(value)
            stored.update(view.value for view in value.views if not kernel.at_hand(view))
    return frozenset(stored)


def _may_overwrite(new: Value, old: Value, kernels: tuple[Kernel, ...]) -> bool:
    """Whether a value can be written in place of another one, because that is no longer read, except at the same element."""
    if not isinstance(new, Pointwise):
        return False
    making = next(number for number, kernel in enumerate(kernels) if new in kernel.inside)
    for number, kernel in enumerate(kernels[making:], start=making):
        for value in kernel.values:
            for view in value.views:
                if view.value is not old:
                    continue
                here = number == making and in_step(value, kernel)
                if not here or not (view.is_whole and real(view.shape) == real(new.shape) == kernel.domain):
                    return False
    return True


def _working_memory(
    kernels: tuple[Kernel, ...], wanted: Iterable[Value], until_the_end: Iterable[Value]
) -> tuple[dict[Value, int], int]:
    """The position of each value in working memory, and the total size; the memory of values that are no longer needed is reused."""
    wanted = frozenset(wanted)
    last = dict.fromkeys(until_the_end, len(kernels))  # the kernel that reads a value last
    for number, kernel in enumerate(kernels):
        for value in kernel.values:
            last[value] = max(last.get(value, 0), number)
            for source in value.sources:
                last[source] = max(last.get(source, 0), number)
    dying: dict[int, list[Value]] = {}
    for value, number in last.items():
        dying.setdefault(number, []).append(value)
    places: dict[Value, int] = {}
    free: dict[int, list[int]] = {}
    top = 0
    for number, kernel in enumerate(kernels):
        for value in kernel.values:
            if value in wanted:
                size = room(value)
                if free.get(size):
                    places[value] = free[size].pop()
                else:
                    places[value], top = top, top + size
        for value in dying.get(number, ()):
            if value in places:
                free.setdefault(room(value), []).append(places[value])
    return places, top
