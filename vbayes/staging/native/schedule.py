"""Which values are made by one loop nest."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, replace

from .ir import Counter, Gather, Given, Pointwise, Reduction, Value, View

Domain = tuple[int, ...]
COPIES = 4  # of one value, at most
LARGE = 2**14  # elements from which a loop is worth a second thread


@dataclass(eq=False)
class Kernel:
    """Values made together.

    Attributes:
        domain: What its loops run over, without dimensions of size 1; None for a value with a kernel of its own kind.
        values: In the order of making.
    """

    domain: Domain | None
    values: list[Value]


def schedule(outputs: Iterable[Value]) -> list[Kernel]:
    """Kernels in an order in which each has what it needs.

    Greedy: the smallest loops that are ready first, each joined by all that can join it, so that the largest ones find
    the most to fuse. What costs less to make than to keep is made where it is read, each time anew.
    """
    ends = set(outputs)
    pending = _needed(outputs)
    cheap = _made_where_read(pending, ends)
    done: set[Value] = {v for v in pending if isinstance(v, Given)}
    pending = [v for v in pending if v not in done]
    kernels = []
    while pending:
        at_hand = set(done)  # or as good as that
        for v in pending:
            if v in cheap and all(s in at_hand for s in v.sources):
                at_hand.add(v)
        ready = [v for v in pending if v not in cheap and all(s in at_hand for s in v.sources)]
        first = min(ready, key=lambda v: -1 if domain(v) is None else math.prod(domain(v) or ()))
        if domain(first) is None:
            members = [first]
        else:
            members = _without_idle(_joined(pending, domain(first), done, cheap), cheap)
        assert members, "a schedule that does not move on"
        kernels.append(Kernel(domain(first), members))
        done.update(members)
        gone = set(members)
        pending = [v for v in pending if v not in gone]
    return kernels


def domain(value: Value) -> Domain | None:
    """What the loops that make a value run over."""
    if isinstance(value, (Pointwise, Counter, Gather)):
        return tuple(n for n in value.shape if n != 1)
    if isinstance(value, Reduction):
        (operand,) = value.operands
        assert isinstance(operand, View)
        return tuple(n for n in operand.shape if n != 1)
    return None


def same_place(view: View, over: Domain) -> bool:
    """Whether a loop over `over` that makes the value also has just this element of it at hand."""
    return view.is_whole and tuple(n for n in view.shape if n != 1) == over == domain(view.value)


def _needed(outputs: Iterable[Value]) -> list[Value]:
    """Everything that the outputs need, each after what it needs itself."""
    order: dict[Value, None] = {}
    stack: list[tuple[Value, bool]] = [(v, False) for v in reversed(list(outputs))]
    while stack:
        value, opened = stack.pop()
        if value in order:
            continue
        if opened:
            order[value] = None
        else:
            stack.append((value, True))
            stack.extend((s, False) for s in reversed(value.sources) if s not in order)
    return list(order)


def _made_where_read(values: list[Value], ends: set[Value]) -> set[Value]:
    """Large values of little arithmetic, of which each reader gets one of its own. Readers are changed in place."""
    readers: dict[Value, list[tuple[Value, int]]] = {}
    for value in values:
        for i, operand in enumerate(value.operands):
            if isinstance(operand, View):
                readers.setdefault(operand.value, []).append((value, i))
    own: dict[Value, list[Value]] = {}
    for value in reversed(values):
        if not isinstance(value, Pointwise) or value in ends or value.size < LARGE or "(" in value.template:
            continue
        every = [(copy, i) for reader, i in readers.get(value, []) for copy in own.get(reader, [reader])]
        over = domain(value)
        loops = all(domain(r) == over and not isinstance(r, Gather) for r, _ in every)
        if len(every) > COPIES or not loops or not all(same_place(r.operands[i], over or ()) for r, i in every):  # type: ignore[arg-type]
            continue
        own[value] = []
        for reader, i in every:
            twin = replace(value, operands=list(value.operands))
            view = reader.operands[i]
            assert isinstance(view, View)
            reader.operands[i] = View(twin, view.meta)
            own[value].append(twin)
    order: list[Value] = []
    for value in values:
        order += own.get(value, [value])
    values[:] = order
    return {twin for twins in own.values() for twin in twins}


def _without_idle(members: list[Value], cheap: set[Value]) -> list[Value]:
    """Members but for those of little arithmetic that none of the others reads."""
    wanted = {v for v in members if v not in cheap}
    for value in reversed(members):
        if value in wanted:
            wanted.update(s for s in value.sources if s in cheap)
    return [v for v in members if v in wanted]


def _joined(pending: list[Value], over: Domain | None, done: set[Value], cheap: set[Value]) -> list[Value]:
    inside: set[Value] = set()
    members: list[Value] = []
    alone = math.prod(over or ()) >= LARGE
    for value in pending:
        if domain(value) != over or over is None:
            continue
        if alone and isinstance(value, Reduction) and not splits(value) and any(m not in cheap for m in members):
            continue  # it can't run on two threads, and would keep the others from it
        if all(_at_hand(o, over, done, inside, value) for o in value.operands if isinstance(o, View)):
            members.append(value)
            if not isinstance(value, Reduction):
                inside.add(value)
            elif alone and not splits(value):
                break
    return members


def _at_hand(view: View, over: Domain, done: set[Value], inside: set[Value], value: Value) -> bool:
    if view.value in done:
        return True
    if isinstance(value, Gather) and view is value.operands[0]:
        return False
    return view.value in inside and same_place(view, over)


def splits(value: Reduction) -> bool:
    """Whether threads that share out the outermost loop would not write to the same place, or to one number only."""
    (operand,) = value.operands
    assert isinstance(operand, View)
    real = [d for d, n in enumerate(operand.shape) if n != 1]
    gone = [d for d in real if d in value.dims]
    return gone == real or not gone or gone == real[-len(gone) :]
