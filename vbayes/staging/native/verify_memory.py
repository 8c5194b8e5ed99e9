"""Whether each value that is read from memory is still there: a walk through a program with a note of what lies where."""

from __future__ import annotations

from bisect import bisect_left, bisect_right

from .ir import Value, View
from .memory import Layout, Place, in_step
from .schedule import Kernel, real

Wrong = tuple[Value, str]


class _Contents:
    """What lies where: parts of areas that do not overlap, each with the value that was written there last."""

    def __init__(self) -> None:
        self._starts: dict[str, list[int]] = {}
        self._parts: dict[tuple[str, int], tuple[int, Value]] = {}

    def write(self, place: Place, value: Value) -> None:
        """What overlaps is lost."""
        area, first, end = _span(place, value)
        starts = self._starts.setdefault(area, [])
        low = max(0, bisect_right(starts, first) - 1)
        for start in starts[low : bisect_left(starts, end)]:
            if self._parts[area, start][0] > first:
                starts.remove(start)
                del self._parts[area, start]
        if (area, first) not in self._parts:
            starts.insert(bisect_left(starts, first), first)
        self._parts[area, first] = end, value

    def holds(self, place: Place, value: Value) -> bool:
        area, first, _ = _span(place, value)
        return self._parts.get((area, first), (0, None))[1] is value


def _span(place: Place, value: Value) -> tuple[str, int, int]:
    """An area and the bytes in it; each array of the caller is an area of its own."""
    if place.area == "work":
        return "work", place.at, place.at + max(1, value.size) * value.dtype.itemsize
    return f"{place.area}[{place.at}]", 0, 1


def check_memory(layout: Layout) -> Wrong | None:
    """The first value that is not where it is read, and what is wrong; None if nothing is."""
    graph, contents = layout.schedule.graph, _Contents()
    for number, given in enumerate((*graph.inputs, *graph.constants)):
        contents.write(Place("in", number), given)
    for kernel in layout.schedule.kernels:
        if wrong := _read(kernel, layout, contents) or _written(kernel, layout):
            return wrong
        for value in kernel.values:
            if value in layout.stored:
                contents.write(layout.places[value], value)
    for new, old in layout.moves:
        if not contents.holds(layout.places[new], new):
            return new, "it is overwritten before it is moved"
        contents.write(layout.places[old], new)
    for number, value in enumerate(graph.outputs):
        place = Place("in", number) if number < graph.states else Place("out", number - graph.states)
        if not contents.holds(place, value):
            return value, "an output that is not where the caller looks for it"
    return None


def _read(kernel: Kernel, layout: Layout, contents: _Contents) -> Wrong | None:
    for value in kernel.values:
        for view in value.views:
            if kernel.at_hand(view):
                continue
            if view.value not in layout.places or view.value in kernel.inside:
                return value, "an operand that is not stored is read from memory"
            if not contents.holds(layout.places[view.value], view.value):
                return value, "an operand is overwritten before it is read"
    return None


def _written(kernel: Kernel, layout: Layout) -> Wrong | None:
    """What a kernel writes must not lie over what it reads, unless it reads each element just before it writes it."""
    written = [v for v in kernel.values if v in layout.stored]
    if any(v not in layout.places for v in written):
        return written[0], "it is stored nowhere"
    for value in written:
        place = layout.places[value]
        if place.area == "work" and place.at + value.size * value.dtype.itemsize > layout.work:
            return value, "it lies beyond the working memory"
    spans = {v: _span(layout.places[v], v) for v in written}
    spans |= {s: _span(layout.places[s], s) for v in kernel.values for s in v.sources if s in layout.places}
    in_order = sorted(spans, key=lambda v: spans[v])
    for one, other in zip(in_order, in_order[1:], strict=False):
        (area, _, end), (where, start, _) = spans[one], spans[other]
        if area != where or start >= end:
            continue
        new, old = (one, other) if one in kernel.inside else (other, one)
        if new not in kernel.inside:
            continue  # both are read
        if old in kernel.inside or not all(
            _same_element(view, value, kernel) for value in kernel.values for view in value.views if view.value is old
        ):
            return new, "it is written over what its kernel still needs"
    return None


def _same_element(view: View, reader: Value, kernel: Kernel) -> bool:
    return in_step(reader, kernel) and view.is_whole and real(view.shape) == kernel.domain
