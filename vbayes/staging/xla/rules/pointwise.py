"""The operations on single numbers: a row for each, with its name in ATen."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jax.scipy import special
from torch import Tensor

from .registry import RULES, Rule, cast, rule, together

OF_THE_RESULT: dict[str, Callable[..., Any]] = {
    # functions
    "abs": jnp.abs, "acos": jnp.arccos, "acosh": jnp.arccosh, "asin": jnp.arcsin, "asinh": jnp.arcsinh, "atan": jnp.arctan, "atanh": jnp.arctanh,
    "atan2": jnp.arctan2, "ceil": jnp.ceil, "copysign": jnp.copysign, "cos": jnp.cos, "cosh": jnp.cosh, "digamma": special.digamma, "erf": lax.erf, "erfc": lax.erfc,
    "erfinv": special.erfinv, "exp": jnp.exp, "exp2": jnp.exp2, "expm1": jnp.expm1, "floor": jnp.floor, "fmod": jnp.fmod, "hypot": jnp.hypot, "igamma": special.gammainc,
    "igammac": special.gammaincc, "lgamma": special.gammaln, "log": jnp.log, "log10": jnp.log10, "log1p": jnp.log1p, "log2": jnp.log2, "nextafter": jnp.nextafter,
    "rsqrt": lax.rsqrt, "sigmoid": jax.nn.sigmoid, "sign": jnp.sign, "sgn": jnp.sign, "sin": jnp.sin, "sinh": jnp.sinh, "special_i0e": special.i0e, "special_i1e": special.i1e,
    "i0": special.i0, "special_i1": special.i1, "special_ndtri": special.ndtri, "special_zeta": special.zeta, "sqrt": jnp.sqrt, "tan": jnp.tan,
    "tanh": jnp.tanh, "trunc": jnp.trunc,
    # arithmetic
    "mul": jnp.multiply, "neg": jnp.negative, "reciprocal": jnp.reciprocal, "relu": lambda x: jnp.where(x < 0, 0, x), "maximum": jnp.maximum,
    "minimum": jnp.minimum, "remainder": jnp.remainder, "xlogy": lambda x, y: jnp.where(jnp.isnan(y), jnp.nan, jnp.where(x == 0, 0, x * jnp.log(y))),
    # bits
    "bitwise_and": jnp.bitwise_and, "bitwise_or": jnp.bitwise_or, "bitwise_xor": jnp.bitwise_xor, "bitwise_not": jnp.bitwise_not, "__lshift__": jnp.left_shift,
    "__rshift__": jnp.right_shift, "bitwise_left_shift": jnp.left_shift, "bitwise_right_shift": jnp.right_shift,
}  # fmt: skip
"""Operands are cast to the type of the result."""
OF_ALL: dict[str, Callable[..., Any]] = {
    "eq": jnp.equal, "ne": jnp.not_equal, "lt": jnp.less, "le": jnp.less_equal, "gt": jnp.greater, "ge": jnp.greater_equal, "isnan": jnp.isnan, "isinf": jnp.isinf,
    "logical_and": jnp.logical_and, "logical_or": jnp.logical_or, "logical_xor": jnp.logical_xor, "logical_not": jnp.logical_not, "signbit": jnp.signbit,
}  # fmt: skip
"""Operands are cast to the type that they have together; the result is true or false."""


def _of_the_result(fn: Callable[..., Any]) -> Rule:
    return lambda out, *operands: fn(*(cast(o, out.dtype) for o in operands))


def _of_all(fn: Callable[..., Any]) -> Rule:
    def run(out: Tensor, *operands: Any) -> Any:
        dtype = together(*operands)
        return fn(*(cast(o, dtype) for o in operands))

    return run


RULES.update({name: _of_the_result(fn) for name, fn in OF_THE_RESULT.items()})
RULES.update({name: _of_all(fn) for name, fn in OF_ALL.items()})


@rule("add")
def _add(out: Tensor, a: Any, b: Any, alpha: Any = 1) -> Any:
    a, b = cast(a, out.dtype), cast(b, out.dtype)
    return a | b if a.dtype == bool else a + (b if alpha == 1 else cast(alpha, out.dtype) * b)


@rule("sub")
def _sub(out: Tensor, a: Any, b: Any, alpha: Any = 1) -> Any:
    return _add(out, a, b, -alpha)


@rule("rsub")
def _rsub(out: Tensor, a: Any, b: Any, alpha: Any = 1) -> Any:
    return _add(out, b, a, -alpha)


@rule("div")
def _div(out: Tensor, a: Any, b: Any, *, rounding_mode: str | None = None) -> Any:
    a, b = cast(a, out.dtype), cast(b, out.dtype)
    if rounding_mode is None:
        return jnp.divide(a, b)
    if out.dtype.is_floating_point:
        # By zero torch divides as it always does; the remainder of jax has NaN there.
        return jnp.where(b == 0, a / b, jnp.floor_divide(a, b)) if rounding_mode == "floor" else jnp.trunc(a / b)
    return jnp.floor_divide(a, b) if rounding_mode == "floor" else lax.div(*jnp.broadcast_arrays(a, b))


@rule("pow")
def _pow(out: Tensor, base: Any, exponent: Any) -> Any:
    base = cast(base, out.dtype)
    if not isinstance(exponent, jax.Array):
        if exponent == 0.5:
            return jnp.sqrt(base)
        if float(exponent).is_integer() and abs(exponent) <= 4 and (exponent >= 0 or out.dtype.is_floating_point):
            return lax.integer_pow(base, int(exponent))
    return jnp.power(base, cast(exponent, out.dtype))


@rule("polygamma")
def _polygamma(out: Tensor, n: int, x: Any) -> Any:
    x = cast(x, out.dtype)
    return special.digamma(x) if n == 0 else special.polygamma(n, x)


@rule("round")
def _round(out: Tensor, x: Any, *, decimals: int = 0) -> Any:
    return jnp.round(x, decimals)


@rule("clone", "_to_copy", "detach", "alias", "lift_fresh_copy", "convert_element_type")
def _same(out: Tensor, x: Any, *_: Any, **__: Any) -> Any:
    return x


@rule("copy")
def _copy(out: Tensor, base: Any, source: Any, *_: Any) -> Any:
    return jnp.broadcast_to(cast(source, out.dtype), out.shape)


@rule("where")
def _where(out: Tensor, condition: Any, yes: Any, no: Any) -> Any:
    return jnp.where(condition.astype(bool), cast(yes, out.dtype), cast(no, out.dtype))


@rule("masked_fill")
def _masked_fill(out: Tensor, base: Any, mask: Any, value: Any) -> Any:
    return jnp.where(mask, cast(value, out.dtype), base)


@rule("clamp")
def _clamp(out: Tensor, x: Any, low: Any = None, high: Any = None) -> Any:
    x = cast(x, out.dtype)
    x = x if low is None else jnp.maximum(x, cast(low, out.dtype))
    return x if high is None else jnp.minimum(x, cast(high, out.dtype))


@rule("clamp_min")
def _clamp_min(out: Tensor, x: Any, low: Any) -> Any:
    return _clamp(out, x, low)


@rule("clamp_max")
def _clamp_max(out: Tensor, x: Any, high: Any) -> Any:
    return _clamp(out, x, None, high)


@rule("_linalg_check_errors", "_assert_tensor_metadata")
def _nothing(out: Any, *_: Any, **__: Any) -> Any:
    """Where a factorisation failed there is NaN, and the step that it reaches is not taken."""
    return None
