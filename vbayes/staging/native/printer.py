"""The intermediate form as readable text."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from typing import Any

import torch

from .ir import Graph, Operand, Pointwise, Reduction, Value, View
from .memory import Layout
from .schedule import Schedule

Names = Mapping[Value, str]


def show(form: Graph | Schedule | Layout) -> str:
    """A program after any of the passes: a line for each value; its kernels; where values lie.

    `%3: float64[2, 5] = mul(%1, %2[2, 5; strides 0, 1])` is a value with its shape, made from another one as it lies in memory
    and from one that is read in another way.
    """
    if isinstance(form, Graph):
        return "\n".join([*_head(form), *_lines(form.values(), names(form), {}), *_tail(form)])
    scheduled = form.schedule if isinstance(form, Layout) else form
    places = {}
    if isinstance(form, Layout):
        places = {v: f"{p.area} + {p.at}" if p.area == "work" else f"{p.area}[{p.at}]" for v, p in form.places.items()}
        places = {v: f"  -> {place}" for v, place in places.items() if v in form.stored}
    called, lines = names(scheduled.graph), _head(scheduled.graph)
    for number, kernel in enumerate(scheduled.kernels):
        over = "of its own" if kernel.domain is None else f"over [{_numbers(kernel.domain)}]"
        lines += [f"kernel {number} {over}:", *(f"  {line}" for line in _lines(kernel.values, called, places))]
    if isinstance(form, Layout):
        lines += [f"move {called[new]} to {called[old]}" for new, old in form.moves]
        lines += [f"work: {form.work} bytes"]
    return "\n".join([*lines, *_tail(scheduled.graph)])


def names(graph: Graph) -> dict[Value, str]:
    """What values are called: in0, constant0, %0, ..."""
    found: dict[Value, str] = {v: f"in{i}" for i, v in enumerate(graph.inputs)}
    found |= {v: f"constant{i}" for i, v in enumerate(graph.constants)}
    for value in graph.values():
        found.setdefault(value, f"%{len(found) - len(graph.inputs) - len(graph.constants)}")
    return found


def line(value: Value, called: Names) -> str:
    """One value and what it is made from."""
    text = f"{called.get(value, '?')}: {_type(value)}"
    if not value.operands and not _fields(value):
        return text
    return f"{text} = {_operation(value)}({', '.join(_operand(o, called) for o in value.operands)}){_fields(value)}"


def _lines(values: Iterable[Value], called: Names, places: Mapping[Value, str]) -> list[str]:
    return [line(v, called) + places.get(v, "") for v in values if called.get(v, "%").startswith("%")]


def _head(graph: Graph) -> list[str]:
    called = names(graph)
    given = [f"{called[v]}: {_type(v)}" for v in (*graph.inputs, *graph.constants)]
    return [f"program({', '.join(given)})" + (f" with {graph.states} states" if graph.states else "")]


def _tail(graph: Graph) -> list[str]:
    called = names(graph)
    return [f"return {', '.join(called[v] for v in graph.outputs)}"]


def _operation(value: Value) -> str:
    if isinstance(value, Pointwise):
        return value.op.name
    return value.by.name if isinstance(value, Reduction) else _snake(type(value).__name__)


def _snake(name: str) -> str:
    return "".join(f"_{c.lower()}" if c.isupper() else c for c in name).lstrip("_")


def _fields(value: Value) -> str:
    """The other fields of a value."""
    own = {f.name for f in dataclasses.fields(value)} - {"shape", "dtype", "operands", "op", "by", "types", "constant"}
    found = [f"{name} {_plain(getattr(value, name))}" for name in sorted(own)]
    return f" {{{'; '.join(found)}}}" if found else ""


def _plain(field: Any) -> str:
    return _numbers(field) if isinstance(field, tuple) else str(field)


def _operand(operand: Operand, called: Names) -> str:
    if not isinstance(operand, View):
        return repr(operand)
    name = called.get(operand.value, "?")
    if operand.is_whole and operand.shape == operand.value.shape:
        return name
    offset = f"; offset {operand.offset}" if operand.offset else ""
    strides = "" if operand.is_whole else f"; strides {_numbers(operand.strides)}"
    return f"{name}[{_numbers(operand.shape)}{strides}{offset}]"


def _type(value: Value) -> str:
    return f"{_short(value.dtype)}[{_numbers(value.shape)}]"


def _short(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def _numbers(numbers: Iterable[Any]) -> str:
    return ", ".join(map(str, numbers))
