"""A function of nests of tensors as machine code, where there is some for it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor
from torch.utils._pytree import tree_flatten, tree_unflatten

from .backends import made_by


class Compiled:
    """Called like the function that it was made from; it also is that function, where it can't be compiled.

    Args:
        fn: Pure, of static shapes; takes and returns nests (dicts, tuples, lists) of tensors.
        examples: Of the shapes and types that it will be called with.
        backend: By what; see `backends.made_by`.

    Attributes:
        native: The machine code; None where there is none.
        xla: The program by XLA; None where there is none.
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
        """One run, on arguments like the examples."""
        made = self.native or self.xla
        if made is None:
            return self._fn(*args)
        return tree_unflatten(made(*tree_flatten(args)[0]), self._returns)
