"""Folding: masks that depend on no input are computed once, as constants, instead of in every step."""

from __future__ import annotations

import torch

from .interpret import interpret
from .ir import Graph, Input, Iota, Pointwise, Value
from .rewrite import Rewriting

FEW = 64  # elements up to which they are made anew in the loops that read them


def fold(graph: Graph) -> Graph:
    """The same program with more constants.

    Only values computed from integers, which have no rounding, are folded: the lower triangle of a 500 × 500 matrix is then read as a mask of one
    byte per element, instead of comparing row and column numbers of eight bytes in each step.
    """
    values, ends = graph.values(), set(graph.outputs)
    known: set[Value] = set()
    for value in values:
        if (
            isinstance(value, (Pointwise, Iota))
            and not value.dtype.is_floating_point
            and known.issuperset(value.sources)
        ):
            known.add(value)
    read = {s for v in values if v not in known for s in v.sources}
    wanted = [
        v for v in values if v in known and v in read and v.dtype == torch.bool and v.size > FEW and v not in ends
    ]
    if not wanted:
        return graph
    constants: dict[tuple[tuple[int, ...], bytes], Input] = {}
    rewriting, folded = Rewriting(), dict(zip(wanted, interpret(Graph((), (), tuple(wanted)), []), strict=True))
    for value in values:
        if value in folded:
            key = value.shape, folded[value].numpy().tobytes()
            rewriting.put(value, constants.setdefault(key, Input(value.shape, value.dtype, constant=folded[value])))
        else:
            rewriting.keep(value)
    return rewriting.graph(graph, constants.values())
