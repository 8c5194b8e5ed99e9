"""Draws K particles in parallel, by `vmap`, if model and guide allow it.

A run of Pyro's handlers takes milliseconds, whatever is computed in it: five hundred in parallel take little longer than a few. The model need not broadcast over particles, unlike
with `vectorize_particles`.
"""

from __future__ import annotations

import functools
import random
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from typing import Any

import numpy as np
import pyro
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from .. import rng
from ..errors import warn
from ..pair.modules import buffers_stay
from ..validation import validation, vmap
from .base_noise import Draw, Intercept
from .particles import Particles

FEW = 16  # minimum number of particles: fewer take less time than finding out whether they can be vectorised
MANY = 100  # number of particles from which a warning says that they are drawn one by one
ROOM = (
    2**27
)  # bytes of intermediate results in a chunk: more leaves the caches, and then each run takes longer than alone
TOGETHER = 4  # minimum number of runs in a chunk: fewer are no faster than one after the other

One = Callable[[], Particles]
OF_RECORDS = ("scored", "terms")  # fields that consist of several records of tensors
Calls = list[Tensor]  # the answers to one particle's calls for base noise


def side_by_side(one: One, contexts: Callable[[], Iterator[AbstractContextManager[Any]]]) -> Particles:
    """Draws a particle for each context, in parallel. The base noise is the same as one after the other; other draws have the same distribution.

    They are compared with a single particle on the same noise. If any number differs, or the code is known to work only for single particles, they are drawn one after the other.

    Args:
        one: Draws one particle, in the context in which it is called.
        contexts: Makes the contexts for the noise of each particle, like `base_noise.contexts`.
    """
    before, grew, known = other_generators(), torch.is_grad_enabled(), None
    while known != (known := set(pyro.get_param_store())):  # the first run of a guide draws while it is set up
        look, others = _Look(), contexts()
        with next(others), look, Cost() as cost, buffers_stay() as touched, torch.no_grad():
            alone = one()
    noise, places = [look.answers], [(draw, like.device) for draw, like in zip(look.draws, look.answers, strict=True)]
    for together in others:
        with together:
            noise.append([draw.fresh(device) for draw, device in places])
    on = functools.partial(_on, one, look.draws)
    why = "the draw changes the buffers of a module" if touched else ""
    if other_generators() != before:
        why = "model or guide draw random numbers other than torch's"
    made: list[Tensor] | None = None
    if not why and cost.bytes * TOGETHER <= ROOM:
        chunks = max(1, ROOM // max(1, cost.bytes))
        with torch.set_grad_enabled(grew), validation(False):
            made = _at_once(on, alone, noise[:-1], chunks, only_noise=cost.draws == len(look.draws))
        why = (
            ""
            if made
            else "model or guide branch on drawn values, or use an operation that torch can't map over particles"
        )
    if made is None:
        if why and len(noise) >= MANY:
            _say_once(f"Particles are drawn one by one, with a separate run of model and guide for each: {why}.")
        each = [flat(on(calls)) for calls in noise[:-1]]
        made = [torch.stack(parts) for parts in zip(*each, strict=True)]
    # The last run is a single one, so that values that modules cache in it, as Pyro's flows do, can be copied and saved.
    last = on(noise[-1])
    return joined(last, [torch.cat([most, part[None]]) for most, part in zip(made, flat(last), strict=True)])


def flat(one: Particles) -> list[Tensor]:
    """The tensors of a particle, in a fixed order."""
    records = [record for name in OF_RECORDS for record in vars(one).get(name, ())]
    inside = [getattr(record, part) for record in records for part in record.PARTS]
    return [value for value in vars(one).values() if isinstance(value, Tensor)] + inside


def joined(like: Particles, tensors: Sequence[Tensor]) -> Particles:
    """K particles from their tensors.

    Args:
        like: One of the particles.
        tensors: The tensors of `flat`, with a leading K.
    """
    values = iter(tensors)
    fields: dict[str, Any] = {name: next(values) if isinstance(v, Tensor) else v for name, v in vars(like).items()}
    for name in OF_RECORDS:
        if name in fields:
            fields[name] = tuple(replace(one, **{part: next(values) for part in one.PARTS}) for one in fields[name])
    if "kl" in fields:
        fields["kl"] = fields["kl"].mean(0)
    return Particles(**fields)


def _at_once(
    on: Callable[..., Particles], alone: Particles, noise: list[Calls], chunk: int, *, only_noise: bool
) -> list[Tensor] | None:
    """`flat` of particles on given noise, with a leading dimension; the first particle is known. None if they can't be computed in parallel."""

    def mapped(noise: list[Calls]) -> list[Tensor]:
        stacks = [torch.arange(len(noise), device="cpu"), *(torch.stack(calls) for calls in zip(*noise, strict=True))]
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "There is a performance drop", UserWarning)
            return vmap(lambda _, *calls: flat(on(calls, in_place=False)), randomness="different", chunk_size=chunk)(
                *stacks
            )

    try:
        if not only_noise:  # in a single run, draws that are not made from base noise come in the same order
            with rng.seeded(0), torch.no_grad():
                alone = on(noise[0])
            with rng.seeded(0), torch.no_grad():
                if not all(close(m[0], value) for m, value in zip(mapped(noise[:1]), flat(alone), strict=True)):
                    return None
        made = mapped(noise)
        same = not only_noise or all(close(m[0], value) for m, value in zip(made, flat(alone), strict=True))
    except Exception:  # anything that the model's own code raises on vmap's tensors
        return None
    return made if same else None


def _on(one: One, draws: Sequence[Draw], calls: Sequence[Tensor], *, in_place: bool = True) -> Particles:
    """A particle on given noise, if it makes the same calls as the first one."""
    left = zip(draws, calls, strict=True)

    def answer(kind: str, like: Tensor) -> Tensor:
        asked = Draw.like(kind, like)
        draw, given = next(left, (None, like))
        return given if draw == asked else asked.fresh(like.device)

    with Intercept(answer, in_place=in_place):
        return one()


class _Look(Intercept):
    """Records the answers to calls for base noise."""

    def __init__(self) -> None:
        super().__init__(self._next, in_place=True)
        self.draws: list[Draw] = []
        self.answers: Calls = []

    def _next(self, kind: str, like: Tensor) -> Tensor:
        self.draws.append(draw := Draw.like(kind, like))
        self.answers.append(draw.fresh(like.device))
        return self.answers[-1]


class Cost(TorchDispatchMode):
    """Measures the operations that run inside.

    Attributes:
        bytes: Total size of all results, as if none were freed.
        draws: Number of operations that draw random numbers.
    """

    def __init__(self) -> None:
        super().__init__()
        self.bytes = self.draws = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None) -> Any:
        made = func(*args, **(kwargs or {}))
        if not func.is_view:
            self.bytes += sum(leaf.nbytes for leaf in tree_leaves(made) if isinstance(leaf, Tensor))
            self.draws += torch.Tag.nondeterministic_seeded in func.tags
        return made


def close(mine: Tensor, right: Tensor) -> bool:
    """Whether numbers are equal up to rounding: to half of the digits of single precision, which may be used in between, relative to the largest of them."""
    if mine.shape != right.shape or mine.dtype != right.dtype:
        return False
    if not right.is_floating_point():
        return torch.equal(mine, right)
    finite = right.abs().nan_to_num(posinf=0.0)
    near = torch.finfo(torch.float32).eps ** 0.5 * (float(finite.max()) if right.numel() else 0.0)
    return torch.allclose(mine, right, rtol=0.0, atol=near, equal_nan=True)


def other_generators() -> tuple[Any, ...]:
    """The states of Python's and NumPy's random number generators."""
    return random.getstate(), str(np.random.get_state(legacy=False))


@functools.cache
def _say_once(what: str) -> None:
    warn(what)
