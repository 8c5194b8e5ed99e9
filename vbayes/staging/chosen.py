"""`a[mask] = b[mask]` in a trace where a draw decides on the places, as Pyro's splines have it: as a choice at each place, since programs have fixed shapes."""

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
    """A shape hangs on a draw or a parameter, and would be built in.

    Args:
        said: What Pyro, which raises errors anew, has added.
        line: Of somebody's code where the tensor is made; empty for where the error is raised.
    """

    def __init__(self, said: str = "data-dependent: a shape hangs on the numbers of a tensor", line: str = "") -> None:
        super().__init__(said)
        self.line = line


def line_behind(error: BaseException) -> str:
    """The line of somebody's own code that has brought an error about."""
    each: BaseException | None = error
    while each is not None:
        if isinstance(each, ShapeOfDraws) and each.line:
            return each.line
        each = each.__cause__
    return line_of(error)


class Chosen(TorchFunctionMode):
    """Lets what is taken from some places be put to the same places elsewhere, and nothing else be made of it.

    Args:
        moves: Whether a tensor's numbers are others in each step.

    Attributes:
        taking: Whether an operation is under way whose shape is nobody's to read.
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
    """From what something was taken, by which mask, what these had been through, and in which line."""

    tensor: Tensor
    mask: Tensor
    versions: tuple[int, ...]
    line: str


def _versions(*tensors: Tensor) -> tuple[int, ...]:
    return tuple(tensor._version for tensor in tensors)
