"""The arguments of a step, split into tensors and everything else."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor
from torch.utils._pytree import tree_flatten, tree_unflatten

TENSOR = object()  # placeholder for a tensor


@dataclass(frozen=True)
class Call:
    """The arguments of a step: their tensors, and everything else.

    Attributes:
        tensors: The tensors, in order of traversal.
        key: What a program depends on: shapes, types and devices of the tensors, and everything that is not a tensor.
    """

    tensors: tuple[Tensor, ...]
    key: Hashable
    _constants: tuple[Any, ...]
    _structure: Any

    @classmethod
    def of(cls, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Call:
        leaves: Sequence[Any] = args
        structure: Any = None
        if kwargs or not all(type(arg) is Tensor for arg in args):  # in most steps there is nothing to flatten
            leaves, structure = tree_flatten((args, kwargs))
        tensors = tuple(leaf for leaf in leaves if isinstance(leaf, Tensor))
        constants = tuple(TENSOR if isinstance(leaf, Tensor) else leaf for leaf in leaves)
        kinds = tuple((t.shape, t.dtype, t.device, t.requires_grad) for t in tensors)
        return cls(tensors, (structure, kinds, tuple(map(_name, constants))), constants, structure)

    def bound(self, fn: Callable[..., Any]) -> Callable[..., Any]:
        """`fn` as a function of the tensors alone."""

        def called(*tensors: Tensor) -> Any:
            if self._structure is None:
                return fn(*tensors)
            left = iter(tensors)
            args, kwargs = tree_unflatten([next(left) if c is TENSOR else c for c in self._constants], self._structure)
            return fn(*args, **kwargs)

        return called


def _name(constant: Any) -> Hashable:
    return (type(constant), constant) if isinstance(constant, (int, float, str, bool, type(None))) else id(constant)
