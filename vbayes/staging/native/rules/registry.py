"""The register of rules, and building blocks for them.

A rule is called with the result according to torch (a tensor without storage, or several), and then with the operation's own
arguments, in which arrays are views. It returns a view, or a list of views if the operation has several results.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch
from torch import Tensor

from ..c_numbers import TYPES
from ..ir import Operand, Pointwise, Unsupported, View
from ..ops import OPS

Rule = Callable[..., Any]
RULES: dict[str, Rule] = {}
"""Name of the operation in ATen, without its overload → rule."""


def rule(*names: str) -> Callable[[Rule], Rule]:
    """Registers a function for operations of ATen."""

    def register(fn: Rule) -> Rule:
        RULES.update(dict.fromkeys(names, fn))
        return fn

    return register


def known(dtype: torch.dtype) -> torch.dtype:
    """The type itself.

    Raises:
        Unsupported: There is no such type in our C.
    """
    if dtype not in TYPES:
        raise Unsupported(f"a tensor of {dtype}")
    return dtype


def shape_and_type(out: Tensor) -> dict[str, Any]:
    """The first arguments of a value that is like a tensor."""
    return {"shape": tuple(out.shape), "dtype": known(out.dtype)}


def pointwise(out: Tensor, op: str, operands: Sequence[Operand], types: Iterable[torch.dtype] | None = None) -> View:
    """An operation on operands that are stretched to the shape of the result.

    Args:
        types: That operands are cast to; None: all to that of the result.
    """
    like = shape_and_type(out)
    operands = [_number(o) for o in operands]
    spread = tuple(o.expand(like["shape"]) if isinstance(o, View) else o for o in operands)
    types = [like["dtype"]] * len(spread) if types is None else types
    return View.whole(Pointwise(**like, operands=spread, op=OPS[op], types=tuple(types)))


def _number(operand: Operand) -> Operand:
    """The number in an array of one number, which need not be stored, nor read in a loop, where a read in one branch of a choice would prevent gcc from vectorising."""
    made = operand.value if isinstance(operand, View) else None
    if not isinstance(made, Pointwise) or made.op.name != "copy" or made.views:
        return operand
    (number,) = made.operands
    assert not isinstance(number, View)
    if made.dtype == torch.bool:
        return bool(number)
    return number if made.dtype in (torch.float64, torch.int64) else torch.tensor(number, dtype=made.dtype).item()


def elementwise(op: str, shape: Iterable[int], dtype: torch.dtype, *operands: Operand) -> View:
    """The same on the way to a result, with a shape and a type of its own."""
    return pointwise(torch.empty(tuple(shape), dtype=dtype, device="meta"), op, operands)


def fill(shape: Iterable[int], dtype: torch.dtype, value: Any) -> View:
    """An array of one number."""
    return elementwise("copy", shape, dtype, value)


def cast(view: View, dtype: torch.dtype) -> View:
    """An array as another type; itself, if it is of that type."""
    return view if view.value.dtype == dtype else elementwise("copy", view.shape, dtype, view)


def truth(view: View) -> View:
    """Which elements are not zero; the array itself, if it is of that type."""
    if view.value.dtype == torch.bool:
        return view
    return pointwise(torch.empty(view.shape, dtype=torch.bool, device="meta"), "nonzero", [view], [view.value.dtype])


def copied(view: View) -> View:
    """The same array, contiguous."""
    if view.is_whole and view.shape == view.value.shape:
        return view
    return elementwise("copy", view.shape, view.value.dtype, view)


def viewed(op: Callable[..., Any], base: Operand, *args: Any, **kwargs: Any) -> Any:
    """An operation of torch that returns its argument's own memory, seen in another way."""
    if not isinstance(base, View):
        base = fill((), torch.float64 if isinstance(base, float) else torch.int64, base)
    try:
        meta = op(base.meta, *args, **kwargs)
    except RuntimeError:  # a shape that these strides can't be seen in
        base = copied(base)
        meta = op(base.meta, *args, **kwargs)
    every = meta if isinstance(meta, (list, tuple)) else [meta]
    if any(m.dtype != base.value.dtype for m in every):
        raise Unsupported("an array seen as another type")
    views = [View(base.value, m) for m in every]
    return views if isinstance(meta, (list, tuple)) else views[0]
