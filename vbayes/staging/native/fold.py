"""Folding: masks that hang on no input are made once, as constants, instead of in every step."""

from __future__ import annotations

from dataclasses import replace

import torch

from .interpret import interpret
from .ir import Graph, Input, Iota, Operand, Pointwise, Value, View

FEW = 64  # elements up to which they are made anew in the loops that read them


def fold(graph: Graph) -> Graph:
    """The same program with more constants.

    Of what is made from whole numbers alone, which are the same whoever makes them: that a matrix of 500 × 500 has a lower triangle is then read, a
    byte an element, where each step compared row and column numbers of eight.
    """
    values = graph.values()
    known: set[Value] = set()
    for value in values:
        if (
            isinstance(value, (Pointwise, Iota))
            and not value.dtype.is_floating_point
            and known.issuperset(value.sources)
        ):
            known.add(value)
    read = {s for v in values if v not in known for s in v.sources}
    wanted = [v for v in values if v in known and v in read and v.dtype == torch.bool and v.size > FEW]
    if not wanted:
        return graph
    constants: dict[tuple[tuple[int, ...], bytes], Input] = {}
    made: dict[Value, Value] = {}
    for value, constant in zip(wanted, interpret(Graph((), (), tuple(wanted)), []), strict=True):
        key = (value.shape, constant.numpy().tobytes())
        made[value] = constants.setdefault(key, Input(value.shape, value.dtype, constant=constant))
    for value in values:
        if value not in made:
            made[value] = (
                value.reading(_of(o, made) for o in value.operands)
                if any(made[s] is not s for s in value.sources)
                else value
            )
    outputs = tuple(made[v] if not isinstance(made[v], Input) else v for v in graph.outputs)
    return replace(graph, constants=(*graph.constants, *constants.values()), outputs=outputs)


def _of(operand: Operand, made: dict[Value, Value]) -> Operand:
    return View(made[operand.value], operand.meta) if isinstance(operand, View) else operand
