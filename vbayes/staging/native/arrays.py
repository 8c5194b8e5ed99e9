"""C for values with special loops: concatenation, scattering, running sums, and searches."""

from __future__ import annotations

from collections.abc import Mapping

from .addresses import collapse, index, indexed, nest
from .c_numbers import TYPES
from .ir import ArgExtreme, Assembly, Scan, Scatter, Value, View

Names = Mapping[Value, str]
"""What arrays are called in the C of a kernel."""


def assembly(value: Assembly, names: Names) -> str:
    """Each part copied to its place."""
    lines = []
    for (offset, strides, shape), view in zip(value.parts, value.views, strict=True):
        sizes, (to, source) = collapse(shape, [strides, view.strides])
        lines.append(
            nest(sizes, f"{names[value]}[{index(offset, to)}] = {names[view.value]}[{index(view.offset, source)}];")
        )
    return "\n".join(lines)


def scatter(value: Scatter, names: Names) -> str:
    """The base copied, and then the source added or put."""
    base, source, *places = value.views
    name = names[value]
    where = indexed(
        value,
        View.whole(value),
        [f"i{d}" for d in range(len(source.shape))],
        lambda i: f"{names[places[i].value]}[{index(places[i].offset, places[i].strides)}]",
    )
    sign = "+=" if value.accumulate else "="
    put = f"{name}[{where}] {sign} {names[source.value]}[{index(source.offset, source.strides)}];"
    copy = f"  memcpy({name}, {names[base.value]}, {value.size} * sizeof({TYPES[value.dtype]}));"
    return copy + "\n" + nest(source.shape, put)


def scan(value: Scan, names: Names) -> str:
    """The running sum, with the summed dimension innermost, so that the previous sum is available."""
    (view,) = value.views
    whole = View.whole(value)
    order = [d for d in range(len(value.shape)) if d != value.dim] + [value.dim] if value.shape else []
    sizes = tuple(value.shape[d] for d in order)
    source = index(view.offset, tuple(view.strides[d] for d in order))
    to = index(0, tuple(whole.strides[d] for d in order))
    last = f"i{len(order) - 1}"
    step = whole.strides[value.dim] if order else 0
    text = f"{names[value]}[{to}] = {names[view.value]}[{source}]"
    text += f" + ({last} ? {names[value]}[{to} - {step}] : 0);" if order else ";"
    return nest(sizes, text)


def arg_extreme(value: ArgExtreme, names: Names) -> str:
    """A search along the dimension for each place in the others."""
    (view,) = value.views
    order = [d for d in range(len(view.shape)) if d != value.dim]
    source = names[view.value]
    at = index(view.offset, tuple(view.strides[d] for d in order))
    step, count = (view.meta.stride()[value.dim], view.shape[value.dim]) if view.shape else (0, 1)
    beats = ">" if value.largest else "<"
    text = f"""{{
      long best = 0;
      for (long j = 1; j < {count}; j++) {{
        const {TYPES[view.value.dtype]} x = {source}[{at} + {step} * j], y = {source}[{at} + {step} * best];
        if (x {beats} y || (x != x && y == y)) best = j;
      }}
      {names[value]}[{index(0, View.whole(value).strides)}] = best;
    }}"""
    return nest(tuple(view.shape[d] for d in order), text)
