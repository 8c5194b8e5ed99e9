"""K particles at once, by `vmap`, where model and guide allow it.

A run of Pyro's handlers takes milliseconds, whatever is computed in it: five hundred at once take little longer than a few. A model need not broadcast over them, as
`vectorize_particles` wants it to.
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

FEW = 16  # particles: fewer are drawn by the time that it is known whether they could be drawn at once
MANY = 100  # of which somebody is told that they are drawn one by one
ROOM = (
    2**27
)  # bytes of intermediate results in a chunk: more leaves the caches, and then each run takes longer than alone
TOGETHER = 4  # runs in a chunk, at least: fewer are no quicker than one after the other

One = Callable[[], Particles]
OF_RECORDS = ("scored", "terms")  # fields of which each is several records of tensors
Calls = list[Tensor]  # what one particle's calls for base noise were answered with


def side_by_side(one: One, contexts: Callable[[], Iterator[AbstractContextManager[Any]]]) -> Particles:
    """A particle for each context, together. Base noise is what it would be one after the other, and what else is drawn is of the same distribution.

    They are held against one alone, on the same noise. Where that gives another number, or what runs is known only to work alone, they are drawn one after the other.

    Args:
        one: Draws one, in whatever context it is called.
        contexts: Makes those for the noise of each, as `base_noise.contexts` does.
    """
    before, grew, known = other_generators(), torch.is_grad_enabled(), None
    while known != (known := set(pyro.get_param_store())):  # a guide's first run draws to set itself up
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
    # Last comes one alone: modules that keep what they last made, as Pyro's flows do, keep something that can be copied and saved.
    last = on(noise[-1])
    return joined(last, [torch.cat([most, part[None]]) for most, part in zip(made, flat(last), strict=True)])


def flat(one: Particles) -> list[Tensor]:
    """Its tensors, in one order."""
    records = [record for name in OF_RECORDS for record in vars(one).get(name, ())]
    inside = [getattr(record, part) for record in records for part in record.PARTS]
    return [value for value in vars(one).values() if isinstance(value, Tensor)] + inside


def joined(like: Particles, tensors: Sequence[Tensor]) -> Particles:
    """K particles.

    Args:
        like: One of them.
        tensors: Those of `flat`, with a leading K.
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
    """`flat` of particles on given noise, with a leading dimension; the first is known. None where they can't be had so."""

    def mapped(noise: list[Calls]) -> list[Tensor]:
        stacks = [torch.arange(len(noise), device="cpu"), *(torch.stack(calls) for calls in zip(*noise, strict=True))]
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "There is a performance drop", UserWarning)
            return vmap(lambda _, *calls: flat(on(calls, in_place=False)), randomness="different", chunk_size=chunk)(
                *stacks
            )

    try:
        if not only_noise:  # what is drawn by other ways comes in the same order in one alone
            with rng.seeded(0), torch.no_grad():
                alone = on(noise[0])
            with rng.seeded(0), torch.no_grad():
                if not all(close(m[0], value) for m, value in zip(mapped(noise[:1]), flat(alone), strict=True)):
                    return None
        made = mapped(noise)
        same = not only_noise or all(close(m[0], value) for m, value in zip(made, flat(alone), strict=True))
    except Exception:  # whatever the model's own code raises on tensors of another kind
        return None
    return made if same else None


def _on(one: One, draws: Sequence[Draw], calls: Sequence[Tensor], *, in_place: bool = True) -> Particles:
    """One on given noise, as far as it asks for what the first one did."""
    left = zip(draws, calls, strict=True)

    def answer(kind: str, like: Tensor) -> Tensor:
        asked = Draw.like(kind, like)
        draw, given = next(left, (None, like))
        return given if draw == asked else asked.fresh(like.device)

    with Intercept(answer, in_place=in_place):
        return one()


class _Look(Intercept):
    """Keeps what calls for base noise are answered with."""

    def __init__(self) -> None:
        super().__init__(self._next, in_place=True)
        self.draws: list[Draw] = []
        self.answers: Calls = []

    def _next(self, kind: str, like: Tensor) -> Tensor:
        self.draws.append(draw := Draw.like(kind, like))
        self.answers.append(draw.fresh(like.device))
        return self.answers[-1]


class Cost(TorchDispatchMode):
    """Counts what operations inside make.

    Attributes:
        bytes: Of all results, as if none were freed.
        draws: Operations that draw random numbers.
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
    """Equal but for rounding: half of the digits that single precision has, which they may have been in on their way, of the largest number among them."""
    if mine.shape != right.shape or mine.dtype != right.dtype:
        return False
    if not right.is_floating_point():
        return torch.equal(mine, right)
    finite = right.abs().nan_to_num(posinf=0.0)
    near = torch.finfo(torch.float32).eps ** 0.5 * (float(finite.max()) if right.numel() else 0.0)
    return torch.allclose(mine, right, rtol=0.0, atol=near, equal_nan=True)


def other_generators() -> tuple[Any, ...]:
    """Where Python's and NumPy's random numbers are."""
    return random.getstate(), str(np.random.get_state(legacy=False))


@functools.cache
def _say_once(what: str) -> None:
    warn(what)
