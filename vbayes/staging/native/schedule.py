"""Which values are made by one loop nest."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

from .values import Counter, Gather, Given, Pointwise, Reduction, Value, View

Domain = tuple[int, ...]
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
    the most to fuse.
    """
    pending = _needed(outputs)
    done: set[Value] = {v for v in pending if isinstance(v, Given)}
    pending = [v for v in pending if v not in done]
    kernels = []
    while pending:
        ready = [v for v in pending if all(s in done for s in v.sources)]
        first = min(ready, key=lambda v: -1 if domain(v) is None else math.prod(domain(v) or ()))
        if domain(first) is None:
            members = [first]
        else:
            members = _joined(pending, domain(first), done)
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


def _joined(pending: list[Value], over: Domain | None, done: set[Value]) -> list[Value]:
    inside: set[Value] = set()
    members: list[Value] = []
    alone = math.prod(over or ()) >= LARGE
    for value in pending:
        if domain(value) != over or over is None:
            continue
        if alone and isinstance(value, Reduction) and not splits(value) and members:
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
