"""Sums and what is like them: over some dimensions, or along one."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
from jax import lax
from torch import Tensor

from .registry import RULES, Rule, cast, rule


def _over(x: Any, dims: Any) -> tuple[int, ...]:
    """The dimensions that go: all of them if none is named."""
    dims = [dims] if isinstance(dims, int) else range(x.ndim) if not dims else dims
    return tuple(d % x.ndim for d in dims) if x.ndim else ()


def _reduction(fn: Callable[..., Any]) -> Rule:
    def run(out: Tensor, x: Any, dims: Any = None, keepdim: bool = False, **_: Any) -> Any:
        return fn(cast(x, out.dtype), axis=_over(x, dims), keepdims=keepdim)

    return run


REDUCTIONS: dict[str, Callable[..., Any]] = {
    "sum": jnp.sum, "prod": jnp.prod, "amax": jnp.max, "amin": jnp.min, "mean": jnp.mean,
}  # fmt: skip
RULES.update({name: _reduction(fn) for name, fn in REDUCTIONS.items()})


@rule("any")
def _any(out: Tensor, x: Any, dims: Any = None, keepdim: bool = False) -> Any:
    return jnp.any(x.astype(bool), axis=_over(x, dims), keepdims=keepdim)


@rule("all")
def _all(out: Tensor, x: Any, dims: Any = None, keepdim: bool = False) -> Any:
    return jnp.all(x.astype(bool), axis=_over(x, dims), keepdims=keepdim)


@rule("var")
def _var(
    out: Tensor, x: Any, dims: Any = None, unbiased: bool = True, keep: bool = False, *,
    correction: float | None = None, keepdim: bool = False,
) -> Any:  # fmt: skip
    if isinstance(dims, bool):  # var(x, unbiased)
        dims, unbiased = None, dims
    correction = float(unbiased) if correction is None else correction
    axes = _over(x, dims)
    terms = math.prod(x.shape[d] for d in axes)
    squares = jnp.square(x - jnp.mean(x, axis=axes, keepdims=True))
    return jnp.sum(squares, axis=axes, keepdims=keep or keepdim) / jnp.asarray(max(0.0, terms - correction), x.dtype)


@rule("cumsum")
def _cumsum(out: Tensor, x: Any, dim: int, **_: Any) -> Any:
    x = cast(x, out.dtype)
    return jnp.cumsum(x, dim) if x.ndim else x


@rule("cumprod")
def _cumprod(out: Tensor, x: Any, dim: int, **_: Any) -> Any:
    x = cast(x, out.dtype)
    return jnp.cumprod(x, dim) if x.ndim else x


@rule("logcumsumexp")
def _logcumsumexp(out: Tensor, x: Any, dim: int) -> Any:
    return lax.cumlogsumexp(x, dim % x.ndim) if x.ndim else x


@rule("cummax")
def _cummax(out: Any, x: Any, dim: int) -> Any:
    return _running(x, dim, lambda a, b: (b >= a) | (b != b))


@rule("cummin")
def _cummin(out: Any, x: Any, dim: int) -> Any:
    return _running(x, dim, lambda a, b: (b <= a) | (b != b))


def _running(x: Any, dim: int, later: Callable[[Any, Any], Any]) -> Any:
    """The extreme so far, and where it is: the last of equal ones."""
    if not x.ndim:
        return x, jnp.zeros((), "int64")
    dim %= x.ndim
    places = lax.broadcasted_iota("int64", x.shape, dim)

    def of_two(a: Any, b: Any) -> Any:
        takes = later(a[0], b[0])
        return jnp.where(takes, b[0], a[0]), jnp.where(takes, b[1], a[1])

    return lax.associative_scan(of_two, (x, places), axis=dim)


@rule("max")
def _max(out: Any, x: Any, other: Any = None, keepdim: bool = False) -> Any:
    return _extreme(out, x, other, keepdim, jnp.maximum, jnp.max, jnp.argmax)


@rule("min")
def _min(out: Any, x: Any, other: Any = None, keepdim: bool = False) -> Any:
    return _extreme(out, x, other, keepdim, jnp.minimum, jnp.min, jnp.argmin)


def _extreme(out: Any, x: Any, other: Any, keepdim: bool, of_two: Any, of_many: Any, where: Any) -> Any:
    """Of two arrays; of all elements; or along one dimension, with where it is."""
    if other is None:
        return of_many(x)
    if not isinstance(other, int):
        return of_two(cast(x, out.dtype), cast(other, out.dtype))
    if not x.ndim:
        return x, jnp.zeros((), "int64")
    return of_many(x, axis=other, keepdims=keepdim), where(x, axis=other, keepdims=keepdim)


@rule("argmax")
def _argmax(out: Tensor, x: Any, dim: int | None = None, keepdim: bool = False) -> Any:
    return jnp.argmax(x, dim, keepdims=keepdim) if x.ndim else jnp.zeros((), "int64")


@rule("argmin")
def _argmin(out: Tensor, x: Any, dim: int | None = None, keepdim: bool = False) -> Any:
    return jnp.argmin(x, dim, keepdims=keepdim) if x.ndim else jnp.zeros((), "int64")
