"""Scheduling: which values are made by one loop nest, and in which order."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import cached_property

from .ir import Gather, Graph, Input, Iota, Pointwise, Reduction, Value, View
from .ops import Cost

Domain = tuple[int, ...]
COPIES = 4  # of one value, at most
MOST = 256  # values of one loop nest: what gcc takes for a function grows with the square of its length
LARGE = 2**14  # number of elements from which values are recomputed if that costs less than reading them
DEAR = 8  # times as long as one of little arithmetic an element of another takes


@dataclass(frozen=True, eq=False)
class Kernel:
    """Values made together.

    Attributes:
        domain: What its loops run over, without dimensions of size 1; None for a value with a kernel of its own kind.
        values: In the order of making.
    """

    domain: Domain | None
    values: tuple[Value, ...]

    @property
    def work(self) -> int:
        """Of its loops, in elements of little arithmetic."""
        each = sum(DEAR if isinstance(v, Pointwise) and v.code.cost is Cost.DEAR else 1 for v in self.values)
        return math.prod(self.domain or ()) * each

    @cached_property
    def inside(self) -> frozenset[Value]:
        return frozenset(self.values)

    def at_hand(self, view: View) -> bool:
        """Whether its loops also make just the element that is read here."""
        return self.domain is not None and view.value in self.inside and same_place(view, self.domain)


@dataclass(frozen=True, eq=False)
class Schedule:
    """A program in kernels, in an order in which each has what it needs.

    Attributes:
        graph: Its values; some may be copies of those that the graph before it had.
    """

    graph: Graph
    kernels: tuple[Kernel, ...]


def schedule(graph: Graph) -> Schedule:
    """Kernels of a graph.

    Greedy: the smallest loops that are ready first, each joined by all that can join it, so that the largest ones find
    the most to fuse. What costs less to make than to keep is made where it is read, each time anew.
    """
    graph, pending, cheap = made_where_read(graph)
    done: set[Value] = {v for v in pending if isinstance(v, Input)}
    pending = [v for v in pending if v not in done]
    kernels = []
    while pending:
        at_hand = set(done) if cheap else done  # or as good as that
        for v in pending if cheap else ():
            if v in cheap and at_hand.issuperset(v.sources):
                at_hand.add(v)
        ready = [v for v in pending if v not in cheap and at_hand.issuperset(v.sources)]
        first = min(ready, key=lambda v: -1 if domain(v) is None else math.prod(domain(v) or ()))
        over = domain(first)
        members = [first] if over is None else _without_idle(_joined(pending, over, done, cheap), cheap)
        assert members, "a schedule that does not move on"
        kernels.append(Kernel(over, tuple(members)))
        done.update(members)
        gone = set(members)
        pending = [v for v in pending if v not in gone]
    return Schedule(graph, tuple(kernels))


def real(shape: tuple[int, ...]) -> Domain:
    """A shape without dimensions of size 1."""
    return tuple(n for n in shape if n != 1)


def domain(value: Value) -> Domain | None:
    """What the loops that make a value run over."""
    if isinstance(value, (Pointwise, Iota, Gather)):
        return real(value.shape)
    if isinstance(value, Reduction):
        return real(value.views[0].shape)
    return None


def same_place(view: View, over: Domain) -> bool:
    """Whether a loop over `over` that makes the value also has just this element of it at hand."""
    return view.is_whole and real(view.shape) == over == domain(view.value)


def splits(value: Reduction) -> bool:
    """Whether threads that share out the outermost loop would not write to the same place, or to one number only."""
    in_loops = [d for d, n in enumerate(value.views[0].shape) if n != 1]
    gone = [d for d in in_loops if d in value.dims]
    return gone == in_loops or not gone or gone == in_loops[-len(gone) :]


def made_where_read(graph: Graph) -> tuple[Graph, list[Value], set[Value]]:
    """The graph in which each reader of a large value of little arithmetic has a copy of its own.

    Returns:
        The graph, its values in their order, and which of them are such copies.
    """
    values = graph.values()
    ends = set(graph.outputs)
    readers: dict[Value, list[tuple[Value, int]]] = {}
    for value in values:
        for i, operand in enumerate(value.operands):
            if isinstance(operand, View):
                readers.setdefault(operand.value, []).append((value, i))
    # From the outputs back: a reader that has copies reads its operands once for each of them.
    copies: dict[Value, int] = {}
    reads: dict[tuple[Value, int, int], int] = {}  # a reader, which copy of it, which operand → which copy it reads
    for value in reversed(values):
        if not isinstance(value, Pointwise) or value in ends or value.size < LARGE or value.code.cost is not Cost.CHEAP:
            continue
        every = [(r, copy, i) for r, i in readers.get(value, []) for copy in range(copies.get(r, 1))]
        over = domain(value) or ()
        in_step = all(domain(r) == over and not isinstance(r, Gather) for r, _, _ in every)
        if len(every) <= COPIES and in_step and all(same_place(_view(r, i), over) for r, _, i in every):
            copies[value] = len(every)
            reads.update({read: number for number, read in enumerate(every)})
    if not copies:
        return graph, values, set()
    made: dict[Value, list[Value]] = {}
    for value in values:
        made[value] = []
        for copy in range(copies.get(value, 1)):
            operands = tuple(
                View(made[o.value][reads.get((value, copy, i), 0)], o.meta) if isinstance(o, View) else o
                for i, o in enumerate(value.operands)
            )
            made[value].append(value.reading(operands) if value.operands else value)
    graph = replace(graph, outputs=tuple(made[v][0] for v in graph.outputs))
    order = [each for value in values for each in made[value]]
    return graph, order, {copy for value in copies for copy in made[value]}


def _view(value: Value, number: int) -> View:
    view = value.operands[number]
    assert isinstance(view, View)
    return view


def _without_idle(members: list[Value], cheap: set[Value]) -> list[Value]:
    """Members but for those of little arithmetic that none of the others reads."""
    wanted = {v for v in members if v not in cheap}
    for value in reversed(members):
        if value in wanted:
            wanted.update(s for s in value.sources if s in cheap)
    return [v for v in members if v in wanted]


def _joined(pending: list[Value], over: Domain, done: set[Value], cheap: set[Value]) -> list[Value]:
    """All that can be made in loops over `over`, from what is done and from each other."""
    inside: set[Value] = set()
    members: list[Value] = []
    large = math.prod(over) >= LARGE
    for value in pending:
        if domain(value) != over:
            continue
        if len(members) == MOST and not large:
            break
        if large and isinstance(value, Reduction) and not splits(value) and any(m not in cheap for m in members):
            continue  # it can't run on two threads, and would keep the others from it
        if all(_at_hand(view, over, done, inside, value) for view in value.views):
            members.append(value)
            if not isinstance(value, Reduction):
                inside.add(value)
            elif large and not splits(value):
                break
    return members


def _at_hand(view: View, over: Domain, done: set[Value], inside: set[Value], value: Value) -> bool:
    if view.value in done:
        return True
    if isinstance(value, Gather) and view is value.operands[0]:
        return False
    return view.value in inside and same_place(view, over)
