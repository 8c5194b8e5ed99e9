"""Compiles a function of nested tensors, or records it as a CUDA graph, if possible."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor
from torch.utils._pytree import tree_flatten, tree_unflatten

from .backends import made_by
from .cuda_capture import recorded_or_why
from .cuda_graph import InPlace


class Compiled:
    """Called like the function that it was made from; calls that function itself if it can't be compiled or recorded.

    Args:
        fn: A pure function with static shapes, which takes and returns nested dicts, tuples and lists of tensors.
        examples: Arguments with the shapes and types that it will be called with.
        backend: The back end; see `backends.made_by`.
        static: Whether it draws no random numbers, so that it can be recorded as a CUDA graph.

    Attributes:
        native: The machine code, if any.
        xla: The XLA program, if any.
        why_not: Why there is neither.
        recorded: Whether it is a recorded CUDA graph.
    """

    def __init__(self, fn: Callable[..., Any], *examples: Any, backend: str = "auto", static: bool = False) -> None:
        self._fn = fn
        leaves, self._takes = tree_flatten(examples)
        self._returns: Any = None
        self.native, self.xla, self.why_not = made_by(backend, self._flat, leaves)
        on_a_card = any(isinstance(leaf, Tensor) and leaf.is_cuda for leaf in leaves)
        self.recorded = static and on_a_card and not (self.native or self.xla)
        self._graph: InPlace | None = None

    def _flat(self, *leaves: Tensor) -> list[Tensor]:
        made, self._returns = tree_flatten(self._fn(*tree_unflatten(leaves, self._takes)))
        return made

    def __call__(self, *args: Any) -> Any:
        """One run, on arguments like the examples."""
        leaves = tree_flatten(args)[0]
        if self.recorded and self._graph is None:
            self._graph, why = recorded_or_why(lambda: InPlace(self._flat, [], leaves))
            if self._graph is None:
                self.recorded, self.why_not = False, why
        made = self.native or self.xla or self._graph
        if made is None:
            return self._fn(*args)
        return tree_unflatten(made(*leaves), self._returns)
