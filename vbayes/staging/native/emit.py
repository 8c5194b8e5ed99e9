"""Emission: a program with its memory → the text of a C source."""

from __future__ import annotations

from . import arrays, matrices
from .arrays import Names
from .c_numbers import TYPES
from .ir import ArgExtreme, Assembly, Cholesky, Product, Scan, Scatter, Triangular, Value
from .loops import Loops
from .memory import Layout, Place
from .schedule import Kernel

LONG = 2000  # number of values from which a program's functions are not inlined, as gcc's time for a single function grows faster than its length

OWN_LOOPS = {
    ArgExtreme: arrays.arg_extreme,
    Assembly: arrays.assembly,
    Cholesky: matrices.cholesky,
    Product: matrices.product,
    Scan: arrays.scan,
    Scatter: arrays.scatter,
    Triangular: matrices.triangular,
}


def emit(layout: Layout, vector_math: str) -> str:
    """A translation unit: a function for each kernel, one for all that are alike, and `program`, which calls them in turn.

    Args:
        vector_math: Declarations of the C library's functions of whole vectors.
    """
    functions: dict[str, str] = {}  # parameters and body → name
    calls = []
    for number, kernel in enumerate(layout.schedule.kernels):
        written, read, names = _parameters(kernel, layout)
        parameters = [f"{TYPES[v.dtype]}* restrict {names[v]}" for v in written]
        parameters += [f"const {TYPES[v.dtype]}* restrict {names[v]}" for v in read]
        text = f"({', '.join(parameters)}) {{\n{_body(kernel, names, layout)}\n}}"
        name = functions.setdefault(text, f"k{number}")
        arguments = (f"(void*)({_pointer(layout.places[v])})" for v in (*written, *read))
        calls.append(f"  {name}({', '.join(arguments)});")
    for new, old in layout.moves:
        size = f"{new.size} * sizeof({TYPES[new.dtype]})"
        calls.append(f"  memcpy({_pointer(layout.places[old])}, {_pointer(layout.places[new])}, {size});")
    # If steps run in parallel, one of those that see the mark reports it.
    program = "int program(void** in, void** out, char* work) {\n" + "\n".join(calls)
    program += "\n  const int wrong = out_of_range | division_by_zero << 1;\n  if (wrong) out_of_range = division_by_zero = 0;\n  return wrong;\n}"
    long = sum(len(kernel.values) for kernel in layout.schedule.kernels) > LONG
    apart = "__attribute__((noinline)) " if long else ""
    made = (f"{apart}static void {name}{text}" for text, name in functions.items())
    return "\n".join(["#include <math.h>", vector_math, '#include "runtime.h"', *made, program, ""])


def _parameters(kernel: Kernel, layout: Layout) -> tuple[list[Value], list[Value], Names]:
    """The arrays that a kernel writes, those that it reads, and what they are called."""
    written = [v for v in kernel.values if v in layout.stored]
    names = {v: f"v{i}" for i, v in enumerate(written)}
    names |= {old: names[new] for new, old in layout.overwrites.items() if new in names}
    read: list[Value] = []
    for source in dict.fromkeys(s for v in kernel.values for s in v.sources if s not in kernel.inside):
        if source not in names:
            names[source] = f"v{len(written) + len(read)}"
            read.append(source)
    return written, read, names


def _body(kernel: Kernel, names: Names, layout: Layout) -> str:
    if kernel.domain is not None:
        return Loops(kernel, kernel.domain, names, layout.stored).text()
    (value,) = kernel.values
    return OWN_LOOPS[type(value)](value, names)  # type: ignore[operator]


def _pointer(place: Place) -> str:
    return f"work + {place.at}" if place.area == "work" else f"{place.area}[{place.at}]"
