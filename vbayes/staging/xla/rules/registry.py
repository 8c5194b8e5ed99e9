"""The register of rules.

A rule is called with what torch says the result is (a tensor without storage, or several), and then with the operation's own arguments, in which tensors are jax arrays.
It returns an array, or a sequence of them where the operation has several results. Whoever calls it sees to the type of the result, and that its shape is torch's.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import torch
from torch import Tensor

from ..crossing import name_of

Rule = Callable[..., Any]
RULES: dict[str, Rule] = {}
"""Name of the operation in ATen, without its overload → rule."""
DRAWS: dict[str, Rule] = {}
"""The same for those that draw random numbers, whose rules are called with a key first."""


class Unsupported(Exception):
    """There is no rule for an operation, or none for these arguments."""


def rule(*names: str) -> Callable[[Rule], Rule]:
    """Registers a function for operations of ATen."""

    def register(fn: Rule) -> Rule:
        RULES.update(dict.fromkeys(names, fn))
        return fn

    return register


def draw(*names: str) -> Callable[[Rule], Rule]:
    """Registers a function for operations that draw."""

    def register(fn: Rule) -> Rule:
        DRAWS.update(dict.fromkeys(names, fn))
        return fn

    return register


def cast(value: Any, dtype: torch.dtype) -> jax.Array:
    """An array, or a number, as an array of a type."""
    return jnp.asarray(value, dtype=name_of(dtype))


def together(*values: Any) -> torch.dtype:
    """The type that torch would bring arrays and numbers to."""
    metas = [meta(v) if isinstance(v, jax.Array) else v for v in values]
    return metas[0].dtype if len(metas) == 1 else torch.result_type(*metas)


def meta(array: jax.Array) -> Tensor:
    """A tensor without storage of the same shape and type."""
    return torch.empty(array.shape, dtype=getattr(torch, str(array.dtype)), device="meta")
