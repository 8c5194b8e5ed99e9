"""Arrays that are made from nothing."""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
from torch import Tensor

from ..crossing import name_of
from .registry import cast, rule


def filled(out: Tensor, value: Any) -> Any:
    """An array of one number."""
    return jnp.broadcast_to(cast(value, out.dtype), tuple(out.shape))


@rule("full", "full_like", "scalar_tensor", "fill")
def _full(out: Tensor, *args: Any, **_: Any) -> Any:
    return filled(out, args[-1])


@rule("new_full")
def _new_full(out: Tensor, like: Any, shape: Any, value: Any, **_: Any) -> Any:
    return filled(out, value)


@rule(
    "zeros", "zeros_like", "new_zeros", "empty", "empty_like", "new_empty", "empty_strided", "new_empty_strided",
)  # fmt: skip
def _zeros(out: Tensor, *_: Any, **__: Any) -> Any:
    return filled(out, 0)


@rule("ones", "ones_like", "new_ones")
def _ones(out: Tensor, *_: Any, **__: Any) -> Any:
    return filled(out, 1)


@rule("arange")
def _arange(out: Tensor, *args: Any, **_: Any) -> Any:
    start, step = (args[0] if len(args) > 1 else 0), (args[2] if len(args) > 2 else 1)
    return _counted(out, start, step)


@rule("iota")
def _iota(out: Tensor, length: int, *, start: int, step: int, **_: Any) -> Any:
    return _counted(out, start, step)


def _counted(out: Tensor, start: Any, step: Any) -> Any:
    numbers = jnp.arange(out.shape[0], dtype=name_of(out.dtype))
    return cast(start, out.dtype) + cast(step, out.dtype) * numbers


@rule("eye")
def _eye(out: Tensor, *_: Any, **__: Any) -> Any:
    return jnp.eye(*out.shape)
