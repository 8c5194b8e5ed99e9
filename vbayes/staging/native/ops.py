"""The operations on single numbers: one row for each, with its C, its cost, and the same in NumPy.

A new operation is one row here and one row in the test of this table.
"""

from __future__ import annotations

import enum
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from scipy import special


class Cost(enum.Enum):
    """The cost of computing an element: cheap values may be recomputed wherever they are read, expensive ones are computed once and stored."""

    CHEAP = "cheap"
    DEAR = "dear"


@dataclass(frozen=True)
class Code:
    """C for one element.

    Attributes:
        text: An expression with a field for each operand; `{f}` is the suffix of C's float functions.
        cost: Of computing it.
    """

    text: str
    cost: Cost


class Casts(enum.Enum):
    """What operands are cast to before the operation."""

    RESULT = "the type of the result"
    TOGETHER = "the type that they have together; the result is true or false"
    CHOICE = "the first to true or false, the others to the type of the result"


@dataclass(frozen=True)
class Op:
    """A pointwise operation.

    Attributes:
        name: Its own.
        floats: C where the result is of floats, and where nothing else is said.
        numpy: The same on arrays.
        integers: C where the result is of integers.
        booleans: C where it is true or false; None: as for integers.
        casts: Its operands.
        aten: The operations of ATen that are this one, with the same operands.
        operands: Their number.
    """

    name: str
    floats: Code
    numpy: Callable[..., Any]
    integers: Code | None = None
    booleans: Code | None = None
    casts: Casts = Casts.RESULT
    aten: tuple[str, ...] = ()

    def code(self, dtype: torch.dtype) -> Code:
        """The C for a result of this type."""
        if dtype.is_floating_point:
            return self.floats
        return (self.booleans if dtype == torch.bool else None) or self.integers or self.floats

    @property
    def operands(self) -> int:
        return max([1, *(n + 1 for n in range(4) if f"{{{n}}}" in self.floats.text)])


def cheap(text: str) -> Code:
    return Code(text, Cost.CHEAP)


def dear(text: str) -> Code:
    return Code(text, Cost.DEAR)


def _function(name: str, numpy: Callable[..., Any], c: str = "", operands: int = 1, **options: Any) -> Op:
    """A function of C's library, or of `runtime.h`, with ATen's name for it."""
    arguments = ", ".join(f"{{{n}}}" for n in range(operands))
    return Op(name, dear(f"{c or name}{{f}}({arguments})"), numpy, aten=(name,), **options)


def _operator(name: str, text: str, numpy: Callable[..., Any], **options: Any) -> Op:
    return Op(name, cheap(text), numpy, aten=(name,), **options)


def _of_torch(name: str) -> Callable[..., Any]:
    """One of torch's own functions, of arrays."""
    return lambda *arrays: getattr(torch, name)(*map(torch.tensor, np.broadcast_arrays(*arrays))).numpy()


def _logic(name: str, code: Code, numpy: Callable[..., Any], aten: str = "") -> Op:
    return Op(name, code, numpy, casts=Casts.TOGETHER, aten=(aten or name,))


def _floor_divide(x: Any, y: Any) -> Any:
    """Division by zero as in torch; NumPy's result differs for some signs."""
    return np.where(y == 0, x / y, np.floor_divide(x, y))


def _shift_left(x: Any, by: Any) -> Any:
    bits = 8 * x.dtype.itemsize
    return np.where((by < 0) | (by >= bits), 0, np.left_shift(x, np.clip(by, 0, bits - 1)))


def _shift_right(x: Any, by: Any) -> Any:
    bits = 8 * x.dtype.itemsize
    return np.right_shift(x, np.where((by < 0) | (by >= bits), bits - 1, by))


_SAME = cheap("{0}")

_ROWS = (
    # functions
    _function("_dirichlet_grad", _of_torch("_dirichlet_grad"), c="beta_moved", operands=3),
    _function("_standard_gamma_grad", _of_torch("_standard_gamma_grad"), c="gamma_moved", operands=2),
    _function("abs", np.abs, c="fabs", integers=cheap("{0} < 0 ? -{0} : {0}")),
    _function("acos", np.arccos),
    _function("asin", np.arcsin),
    _function("atan", np.arctan),
    _function("atan2", np.arctan2, operands=2),
    _function("ceil", np.ceil, integers=_SAME),
    _function("cos", np.cos),
    _function("cosh", np.cosh),
    _function("digamma", special.digamma),
    _function("erf", special.erf),
    _function("erfc", special.erfc),
    _function("erfinv", special.erfinv),
    _function("exp", np.exp),
    _function("expm1", np.expm1),
    _function("floor", np.floor, integers=_SAME),
    _function("fmod", np.fmod, operands=2, integers=dear("rest({0}, {1})")),
    _function("hypot", np.hypot, operands=2),
    _function("lgamma", special.gammaln),
    _function("log", np.log),
    _function("log10", np.log10),
    _function("log1p", np.log1p),
    _function("log2", np.log2),
    _function("sin", np.sin),
    _function("sinh", np.sinh),
    _function("sqrt", np.sqrt),
    _function("tan", np.tan),
    _function("tanh", np.tanh),
    _function("trunc", np.trunc, integers=_SAME),
    Op("pow", dear("pow{f}({0}, {1})"), np.power),
    Op("round", dear("rint{f}({0})"), np.rint, integers=_SAME),
    Op("rsqrt", dear("1 / sqrt{f}({0})"), lambda x: 1 / np.sqrt(x), aten=("rsqrt",)),
    Op("sigmoid", dear("1 / (1 + exp{f}(-{0}))"), lambda x: 1 / (1 + np.exp(-x)), aten=("sigmoid",)),
    Op("trigamma", dear("trigamma{f}({0})"), lambda x: special.polygamma(1, x)),
    # arithmetic
    Op("add", cheap("{0} + {1}"), np.add),
    Op("add_scaled", cheap("{0} + {2} * {1}"), lambda x, y, a: x + a * y),
    Op("sub", cheap("{0} - {1}"), np.subtract),
    Op("sub_scaled", cheap("{0} - {2} * {1}"), lambda x, y, a: x - a * y),
    Op("sum_scaled", cheap("{0} * {2} + {1} * {3}"), lambda x, y, a, b: x * a + y * b),
    _operator("mul", "{0} * {1}", np.multiply),
    Op("div", cheap("{0} / {1}"), np.divide),
    Op("div_floor", dear("div_floor{f}({0}, {1})"), _floor_divide),
    Op("div_trunc", dear("trunc{f}({0} / {1})"), lambda x, y: np.trunc(x / y)),
    Op("remainder", dear("modulo{f}({0}, {1})"), np.remainder, integers=dear("modulo_of_integers({0}, {1})")),
    _operator("neg", "-{0}", np.negative),
    _operator("reciprocal", "1 / {0}", lambda x: 1 / x),
    _operator("relu", "{0} < 0 ? 0 : {0}", lambda x: np.where(x < 0, 0, x)),
    Op("sign", dear("({0} > 0) - ({0} < 0)"), lambda x: 1.0 * (x > 0) - (x < 0), aten=("sign",)),
    _operator("square", "{0} * {0}", np.square),
    Op("cube", cheap("{0} * {0} * {0}"), lambda x: x * x * x),
    Op("one", cheap("1"), np.ones_like),
    Op("reciprocal_square", dear("1 / ({0} * {0})"), lambda x: 1 / (x * x)),
    Op("square_difference", dear("({0} - {1}) * ({0} - {1})"), lambda x, y: (x - y) * (x - y)),
    _operator("maximum", "{0} > {1} || {0} != {0} ? {0} : {1}", np.maximum),
    _operator("minimum", "{0} < {1} || {0} != {0} ? {0} : {1}", np.minimum),
    Op("copy", _SAME, lambda x: x, aten=("lift_fresh_copy", "detach")),
    Op("where", cheap("{0} ? {1} : {2}"), np.where, casts=Casts.CHOICE),
    # bits
    _operator("bitwise_and", "{0} & {1}", np.bitwise_and),
    _operator("bitwise_or", "{0} | {1}", np.bitwise_or),
    _operator("bitwise_xor", "{0} ^ {1}", np.bitwise_xor),
    _operator("bitwise_not", "~{0}", np.invert, booleans=cheap("!{0}")),
    Op("shift_left", dear("shifted_left({0}, {1}, 8 * (int)sizeof({0}))"), _shift_left, aten=("__lshift__",)),
    Op("shift_right", dear("shifted_right({0}, {1}, 8 * (int)sizeof({0}))"), _shift_right, aten=("__rshift__",)),
    # true or false
    _logic("eq", cheap("{0} == {1}"), np.equal),
    _logic("ne", cheap("{0} != {1}"), np.not_equal),
    _logic("lt", cheap("{0} < {1}"), np.less),
    _logic("le", cheap("{0} <= {1}"), np.less_equal),
    _logic("gt", cheap("{0} > {1}"), np.greater),
    _logic("ge", cheap("{0} >= {1}"), np.greater_equal),
    _logic("logical_and", cheap("{0} != 0 & {1} != 0"), np.logical_and),
    _logic("logical_or", cheap("{0} != 0 | {1} != 0"), np.logical_or),
    _logic("logical_xor", dear("({0} != 0) ^ ({1} != 0)"), np.logical_xor),
    _logic("logical_not", cheap("{0} == 0"), np.logical_not),
    _logic("isnan", cheap("{0} != {0}"), np.isnan),
    _logic("isinf", cheap("{0} == INFINITY || {0} == -INFINITY"), np.isinf),
    Op("nonzero", cheap("{0} != 0"), lambda x: x != 0, casts=Casts.TOGETHER),
)  # fmt: skip

OPS = {op.name: op for op in _ROWS}
BY_ATEN = {name: op for op in _ROWS for name in op.aten}


@dataclass(frozen=True)
class Combine:
    """How a reduction takes in one number more.

    Attributes:
        name: ATen's, and ours.
        code: A C statement for the total `{a}` and the number `{x}`.
        openmp: OpenMP's name for it.
        numpy: The same over axes of an array.
        start: What changes nothing when it is combined with; None: the end of the type's range.
    """

    name: str
    code: str
    openmp: str
    numpy: Callable[..., Any]
    start: int | None

    @property
    def is_extreme(self) -> bool:
        return self.start is None


COMBINES = {
    by.name: by
    for by in (
        Combine("sum", "{a} += {x}", "+", np.sum, 0),
        Combine("prod", "{a} *= {x}", "*", np.prod, 1),
        Combine("any", "{a} |= {x}", "|", np.any, 0),
        Combine("all", "{a} &= {x}", "&", np.all, 1),
        Combine("amax", "{a} = {x} > {a} || {x} != {x} ? {x} : {a}", "max", np.max, None),
        Combine("amin", "{a} = {x} < {a} || {x} != {x} ? {x} : {a}", "min", np.min, None),
    )
}
