"""A function of nests of tensors as machine code, where there is some for it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor
from torch.utils._pytree import tree_flatten, tree_unflatten

from .machine_code import compiled_or_why
from .native import Native


class Compiled:
    """Called like the function that it was made from; it also is that function, where it can't be compiled.

    Args:
        fn: Pure, of static shapes; takes and returns nests (dicts, tuples, lists) of tensors.
        examples: Of the shapes and types that it will be called with.

    Attributes:
        native: The machine code; None where there is none.
        why_not: Why there is none.
    """

    def __init__(self, fn: Callable[..., Any], *examples: Any) -> None:
        self._fn = fn
        self.native: Native | None = None
        self.why_not: str | None = None
        leaves, self._takes = tree_flatten(examples)
        self._returns: Any = None
        if not all(isinstance(leaf, Tensor) and leaf.device.type == "cpu" for leaf in leaves):
            self.why_not = "there is machine code for tensors on the CPU only"
            return
        self.native, self.why_not = compiled_or_why(self._flat, leaves)

    def _flat(self, *leaves: Tensor) -> list[Tensor]:
        made, self._returns = tree_flatten(self._fn(*tree_unflatten(leaves, self._takes)))
        return made

    def __call__(self, *args: Any) -> Any:
        """One run, on arguments like the examples."""
        if self.native is None:
            return self._fn(*args)
        return tree_unflatten(self.native(*tree_flatten(args)[0]), self._returns)
