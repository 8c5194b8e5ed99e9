"""Numbers other than the arguments of a model, such as the weight of an annealed KL, as inputs of its program."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.fx.experimental.proxy_tensor import get_proxy_mode

from ..pair.places import Place, standing


class Fed:
    """Places whose values are passed to a program with its arguments.

    Args:
        places: Places that each hold a float or a tensor.
        wide: Whether floats are passed in double precision.
    """

    def __init__(self, places: Sequence[Place], *, wide: bool) -> None:
        self.places = list(places)
        self._dtype = torch.float64 if wide else torch.get_default_dtype()
        self._kinds = [_kind(place.get()) for place in places]

    def now(self) -> tuple[Tensor, ...] | None:
        """The current values; None if one has changed its kind."""
        try:
            values = [place.get() for place in self.places]
        except (KeyError, IndexError, ValueError):
            return None
        return None if [_kind(value) for value in values] != self._kinds else self.as_tensors(values)

    def as_tensors(self, values: Sequence[Any]) -> tuple[Tensor, ...]:
        return tuple(v if isinstance(v, Tensor) else torch.tensor(v, dtype=self._dtype) for v in values)

    def into(self, fn: Callable[..., Any]) -> Callable[..., Any]:
        """`fn` with these values as additional first arguments. While it is traced, the places hold tensors; when it runs, values of their own kind."""
        if not self.places:
            return fn

        def called(*tensors: Tensor) -> Any:
            given, args = tensors[: len(self.places)], tensors[len(self.places) :]
            traced = get_proxy_mode() is not None
            values = [
                t if traced or kind is not float else t.tolist() for t, kind in zip(given, self._kinds, strict=True)
            ]
            with standing(list(zip(self.places, values, strict=True))):
                return fn(*args)

        return called


def can_be_fed(place: Place, before: Any) -> bool:
    """Whether a changed value can become an input: a number in a writable place, or a tensor like the earlier one."""
    now = place.get()
    numbers = type(now) in (int, float) and type(before) in (int, float) and float in (type(now), type(before))
    return place.writable and (
        numbers or (isinstance(now, Tensor) and not now.requires_grad and _kind(now) == _kind(before))
    )


def _kind(value: Any) -> Any:
    if isinstance(value, Tensor):
        return value.shape, value.dtype, value.device, value.requires_grad
    return float if type(value) in (int, float) else type(value)
