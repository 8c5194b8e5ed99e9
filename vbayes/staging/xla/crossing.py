"""Tensors of torch as arrays of jax and back, by DLPack, without a copy where the device allows it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import torch
from torch import Tensor

SMALL = 4096  # numbers in a tensor: to cross costs some ten µs for each array, and to copy so many less than one
ALIGNED = 64  # bytes: memory that begins elsewhere is copied by XLA on a processor, and refused on a card


def name_of(dtype: torch.dtype) -> str:
    """jax's, and NumPy's, name of a type."""
    return str(dtype).removeprefix("torch.")


def to_jax(tensor: Tensor) -> jax.Array:
    """An array over the same memory, if it is aligned; who writes to that memory does so when the array is done with."""
    tensor = tensor.detach().contiguous()
    pinned = tensor.device.type == "cpu" and tensor.is_pinned()  # which jax takes for a card's
    if pinned or tensor.data_ptr() % ALIGNED:
        tensor = tensor.clone()
    return jax.dlpack.from_dlpack(tensor)


@contextmanager
def lent(device: torch.device) -> Iterator[None]:
    """Context for all that crosses, to which it is copied before the end.

    On a card: torch lends the memory of its current device only, and has read jax's before jax uses it again, in the order of a stream of its own.
    """
    if device.type != "cuda":
        yield
        return
    with torch.cuda.device(device):
        yield
        torch.cuda.current_stream(device).synchronize()


def to_torch(array: jax.Array) -> Tensor:
    """A tensor with memory of its own: jax may share that of an array with others."""
    return torch.from_dlpack(array).clone()


@dataclass(frozen=True)
class Crossing:
    """How a list of tensors crosses: small ones of a type as one vector, large ones each, empty ones not at all.

    Attributes:
        shapes, dtypes: Of each.
    """

    shapes: tuple[tuple[int, ...], ...]
    dtypes: tuple[torch.dtype, ...]

    @classmethod
    def of(cls, tensors: Sequence[Any]) -> Crossing:
        """For tensors, real or not, of these shapes and types."""
        return cls(tuple(tuple(t.shape) for t in tensors), tuple(t.dtype for t in tensors))

    @property
    def _sizes(self) -> list[int]:
        return [torch.Size(shape).numel() for shape in self.shapes]

    @property
    def _packed(self) -> dict[torch.dtype, list[int]]:
        """Type → the numbers of the small tensors of it."""
        found: dict[torch.dtype, list[int]] = {}
        for number, (size, dtype) in enumerate(zip(self._sizes, self.dtypes, strict=True)):
            if 0 < size <= SMALL:
                found.setdefault(dtype, []).append(number)
        return found

    @property
    def _alone(self) -> list[int]:
        return [number for number, size in enumerate(self._sizes) if size > SMALL]

    def over(self, tensors: Sequence[Tensor]) -> list[jax.Array]:
        """The arrays that cross."""
        vectors = [torch.cat([tensors[n].detach().reshape(-1) for n in some]) for some in self._packed.values()]
        return [to_jax(tensor) for tensor in (*vectors, *(tensors[n] for n in self._alone))]

    def opened(self, crossed: Sequence[jax.Array]) -> list[jax.Array]:
        """What has crossed, one for each tensor; inside a program."""
        sizes, left = self._sizes, iter(crossed)
        made = [jnp.zeros(shape, name_of(dtype)) for shape, dtype in zip(self.shapes, self.dtypes, strict=True)]
        for some in self._packed.values():
            vector, start = next(left), 0
            for n in some:
                made[n] = vector[start : start + sizes[n]].reshape(self.shapes[n])
                start += sizes[n]
        for n in self._alone:
            made[n] = next(left)
        return made

    def closed(self, arrays: Sequence[jax.Array]) -> list[jax.Array]:
        """The other way round: what is to cross back; inside a program."""
        vectors = [jnp.concatenate([arrays[n].reshape(-1) for n in some]) for some in self._packed.values()]
        return [*vectors, *(arrays[n] for n in self._alone)]

    def back(self, crossed: Sequence[jax.Array], device: torch.device) -> list[Tensor]:
        """The tensors, each with memory of its own."""
        sizes, left = self._sizes, iter(crossed)
        made = [torch.empty(s, dtype=d, device=device) for s, d in zip(self.shapes, self.dtypes, strict=True)]
        for some in self._packed.values():
            parts = torch.from_dlpack(next(left)).split([sizes[n] for n in some])
            torch._foreach_copy_([made[n].view(-1) for n in some], list(parts))
        for n in self._alone:
            made[n].copy_(torch.from_dlpack(next(left)))
        return made
