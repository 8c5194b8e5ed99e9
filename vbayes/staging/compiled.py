"""Compiles a function of nested tensors, if possible."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor
from torch.utils._pytree import tree_flatten, tree_unflatten

from .backends import made_by


class Compiled:
    """A compiled function, called like the original one, which it calls itself if that can't be compiled.

    Args:
        fn: A pure function with static shapes, which takes and returns nested dicts, tuples and lists of tensors.
        examples: Arguments with the shapes and types that it will be called with.
        backend: The back end; see `backends.made_by`.

    Attributes:
        native: The machine code, if any.
        xla: The XLA program, if any.
        why_not: Why there is neither.
    """

    def __init__(self, fn: Callable[..., Any], *examples: Any, backend: str = "auto") -> None:
        self._fn = fn
        leaves, self._takes = tree_flatten(examples)
        self._returns: Any = None
        self.native, self.xla, self.why_not = made_by(backend, self._flat, leaves)

    def _flat(self, *leaves: Tensor) -> list[Tensor]:
        made, self._returns = tree_flatten(self._fn(*tree_unflatten(leaves, self._takes)))
        return made

    def __call__(self, *args: Any) -> Any:
        """Runs it on arguments like the examples."""
        made = self.native or self.xla
        if made is None:
            return self._fn(*args)
        return tree_unflatten(made(*tree_flatten(args)[0]), self._returns)
