"""Addresses of the elements of an array, as C: sums of strides times the loop variables i0, i1, ..."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from .ir import Gather, Scatter, View

Strides = tuple[int, ...]


def index(offset: int, strides: Strides) -> str:
    """The element that the loops are at."""
    terms = [f"i{d}" if s == 1 else f"{s} * i{d}" for d, s in enumerate(strides) if s]
    return " + ".join([*([str(offset)] if offset or not terms else []), *terms])


def nest(sizes: tuple[int, ...], body: str) -> str:
    """Plain loops around a statement."""
    loops = "".join(f"  for (long i{d} = 0; i{d} < {n}; i{d}++)\n" for d, n in enumerate(sizes))
    return f"{loops}    {body}"


def collapse(sizes: tuple[int, ...], strides: Sequence[Strides]) -> tuple[tuple[int, ...], list[Strides]]:
    """Loops that all accesses run through as through one are made one."""
    out_sizes: list[int] = []
    out: list[list[int]] = [[] for _ in strides]
    for d, size in enumerate(sizes):
        if out_sizes and all(o[-1] == s[d] * size for o, s in zip(out, strides, strict=True)):
            out_sizes[-1] *= size
            for o, s in zip(out, strides, strict=True):
                o[-1] = s[d]
        else:
            out_sizes.append(size)
            for o, s in zip(out, strides, strict=True):
                o.append(s[d])
    return tuple(out_sizes), [tuple(o) for o in out]


def loop_variables(shape: tuple[int, ...]) -> list[str]:
    """The loop variable of each dimension of an array that is looped over without its dimensions of size 1."""
    names, count = [], 0
    for n in shape:
        names.append("0" if n == 1 else f"i{count}")
        count += n != 1
    return names


def indexed(value: Gather | Scatter, base: View, variables: Sequence[str], place: Callable[[int], str]) -> str:
    """Where in `base` the element lies that index arrays and loops name.

    Args:
        variables: The loop variable of each dimension that is looped over.
        place: Number of an index array → its element that the loops are at.
    """
    free = iter(value.loops)
    terms = [str(base.offset)]
    for which, stride, size in zip(value.places, base.meta.stride(), base.shape, strict=True):
        if which is None:
            terms.append(f"{stride} * {variables[next(free)]}")
        else:
            terms.append(f"{stride} * place({place(which)}, {size})")
    return " + ".join(terms)
