"""Traces `a[mask] = b[mask]` with a mask that depends on draws, as in Pyro's splines, as a choice at each place (`torch.where`), since programs have fixed shapes."""

from __future__ import annotations

import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves
from torch.utils.weak import WeakTensorKeyDictionary

from ..pair.device import line_among, line_of

AT_PLACES = (torch.Tensor.__getitem__, torch.Tensor.__setitem__)


class ShapeOfDraws(RuntimeError):
    """A shape depends on a draw or a parameter, so that a program would have one value of it built in.

    Args:
        said: The message, which Pyro extends when it re-raises errors.
        line: The line of the user's code where the tensor is made; if empty, the line where the error is raised.
    """

    def __init__(self, said: str = "data-dependent: a shape depends on the values of a tensor", line: str = "") -> None:
        super().__init__(said)
        self.line = line


def line_behind(error: BaseException) -> str:
    """The line of the user's code that caused an error."""
    each: BaseException | None = error
    while each is not None:
        if isinstance(each, ShapeOfDraws) and each.line:
            return each.line
        each = each.__cause__
    return line_of(error)


class Chosen(TorchFunctionMode):
    """Allows values taken by a mask to be written back by the same mask, and nothing else to be computed from them.

    Args:
        moves: Whether a tensor's values change from step to step.

    Attributes:
        taking: Whether an operation is in progress whose shape must not be read.
    """

    def __init__(self, moves: Callable[[Tensor], bool]) -> None:
        super().__init__()
        self._moves, self.taking = moves, False
        self._taken: Any = WeakTensorKeyDictionary()

    def __torch_function__(self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None) -> Any:
        if func in AT_PLACES and isinstance(args[1], Tensor) and args[1].dtype == torch.bool and self._moves(args[1]):
            return self._take(*args) if func is torch.Tensor.__getitem__ else self._put(*args)
        for leaf in tree_leaves((args, kwargs)) if self._taken else ():
            if isinstance(leaf, Tensor) and leaf in self._taken:
                raise ShapeOfDraws(line=self._taken[leaf].line)
        return func(*args, **(kwargs or {}))

    def _take(self, tensor: Tensor, mask: Tensor) -> Tensor:
        with self._shape_unread():
            taken = tensor[mask]
        self._taken[taken] = _Taken(tensor, mask, _versions(tensor, mask), line_among(traceback.extract_stack()))
        return taken

    def _put(self, tensor: Tensor, mask: Tensor, value: Any) -> None:
        what = self._taken.get(value) if isinstance(value, Tensor) else None
        if what is None:
            tensor[mask] = value
        elif what.mask is mask and what.tensor.shape == tensor.shape and what.versions == _versions(what.tensor, mask):
            tensor.copy_(torch.where(mask[(..., *[None] * (tensor.dim() - mask.dim()))], what.tensor, tensor))
        else:
            raise ShapeOfDraws(line=what.line)

    @contextmanager
    def _shape_unread(self) -> Iterator[None]:
        self.taking = True
        try:
            yield
        finally:
            self.taking = False


@dataclass(frozen=True, eq=False)
class _Taken:
    """The tensor that values were taken from, the mask, how often the two had been written to, and the line of the user's code."""

    tensor: Tensor
    mask: Tensor
    versions: tuple[int, ...]
    line: str


def _versions(*tensors: Tensor) -> tuple[int, ...]:
    return tuple(tensor._version for tensor in tensors)
