"""Runs something random many times: in parallel by `vmap` if its operations allow it, otherwise one after the other.

A run of Pyro's handlers takes milliseconds, whatever is computed in it: mapped by `vmap` over its base noise, a thousand runs take little longer than one.
Functions that branch on their draws, or do not draw with torch, are run repeatedly.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from .. import rng
from ..arguments.memory import require_memory
from ..drawing.base_noise import Draw
from ..drawing.side_by_side import ROOM, TOGETHER, Cost, close, other_generators
from ..validation import vmap
from .noise import Noise, Recorder, draw_noise
from .pure import Deferred
from .replicate import free_memory
from .trace import trace

Values = dict[Any, Tensor]
Run = Callable[..., Values]
FEW = 32  # minimum number of runs: fewer take less time than finding out whether they can be vectorised
COPIES = 2  # copies of the draws in memory: the chunks and the result


@dataclass(frozen=True)
class Affordable:
    """The number of runs that costs little.

    Attributes:
        most: The number if runs are cheap.
        least: The number if they are not, or have to be done one by one.
        room: Limit on their cost: bytes of intermediate results in all of them.
    """

    most: int
    least: int
    room: int


def many(run: Run, count: int | Affordable, device: torch.device, given: Values | None = None) -> Values:
    """The chunks of `in_chunks`, concatenated: name → (K, …)."""
    parts: list[Values] = []
    for part in in_chunks(run, count, device, given):
        if not parts and isinstance(count, int):
            each = sum(value.nbytes for value in part.values()) / max(1, len(next(iter(part.values()), ())))
            there = free_memory(device) if device.type == "cuda" and torch.cuda.is_available() else None
            mend = "fewer draws, or fewer rows of data at a time"
            require_memory(COPIES * each * count, f"draws={count}", mend=mend, there=there)
        parts.append(part)
    return {name: torch.cat([part[name] for part in parts]) for name in parts[0]}


def in_chunks(run: Run, count: int | Affordable, device: torch.device, given: Values | None = None) -> Iterator[Values]:
    """The results of K runs, in chunks: name → (k, …). To be used in the pair's scope, without gradients and without validation.

    Parallel runs draw other numbers than sequential ones, from the same distribution. They are first compared with a single run on the same noise; if any
    number differs, runs are done one after the other.

    Args:
        run: Returns tensors of the same names and shapes each time, and draws from torch's own generator.
        count: K.
        device: The device on which it draws.
        given: Name → (K, …), of which each run gets its own (…) as a mapping; if None, runs get no argument.
    """
    together = _side_by_side(run, device, _row(given, 0)) if not isinstance(count, int) or count >= FEW else None
    if isinstance(count, Affordable):
        each = count.room if together is None else together.bytes
        count = min(count.most, max(count.least, count.room // max(1, each)))
    if together is None:
        for number in range(count):
            yield {name: value[None] for name, value in run(*_row(given, number)).items()}
        return
    most = ROOM // max(1, together.bytes)
    for start in range(0, count, most):
        noise = draw_noise(together.sizes, min(most, count - start), together.like)
        yield together(noise, *_row(given, slice(start, start + most)))
    with rng.seeded(0):  # so that values that modules cache in a run, as Pyro's flows do, can be copied and saved
        run(*_row(given, 0))


def _row(given: Values | None, index: int | slice) -> tuple[Values, ...]:
    """The arguments of one run, or of a chunk of runs."""
    return () if given is None else ({name: value[index] for name, value in given.items()},)


def _values(given: tuple[Values, ...]) -> list[Tensor]:
    return [value for row in given for value in row.values()]


@dataclass(frozen=True)
class _SideBySide:
    """Parallel runs.

    Attributes:
        one: The noise and arguments of one run → its results, in the order of `names`.
        names: Names of the results.
        sizes: Numbers of normals and uniforms that one run draws.
        like: A tensor of the type and on the device of that noise.
        bytes: Bytes of all intermediate results of one run.
    """

    one: Callable[..., list[Tensor]]
    names: list[Any]
    sizes: tuple[int, int]
    like: Tensor
    bytes: int

    def __call__(self, noise: Noise, *given: Values) -> Values:
        """Runs on noise (k, n) and (k, u), with the arguments of k runs."""
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "There is a performance drop", UserWarning)
            made = vmap(self.one, randomness="different")(noise, *_values(given))
        return dict(zip(self.names, made, strict=True))


def _side_by_side(run: Run, device: torch.device, given: tuple[Values, ...]) -> _SideBySide | None:
    """Prepares parallel runs; None if that is impossible, or not faster than one after the other."""
    with rng.seeded(0):
        before = other_generators()
        with _Look(device) as look, Cost() as cost:
            right = run(*given)
        if other_generators() != before:  # every run would draw the same numbers
            return None
    if cost.bytes * TOGETHER > ROOM:
        return None
    noise = look.seen()

    def one(noise: Noise, *values: Tensor) -> list[Tensor]:  # a traced program can't take a mapping
        with Recorder(noise, gammas=False), Deferred():
            return list(run(*(dict(zip(row, values, strict=True)) for row in given)).values())

    def traced() -> Callable[..., list[Tensor]]:
        # Below Pyro's own autograd functions and `.data`, which `vmap` does not support.
        normals, uniforms = draw_noise(look.sizes, 1, noise[0])
        return trace(one, (normals[0], uniforms[0]), *_values(given))

    for make in (lambda: one, traced):
        try:
            with rng.seeded(1):
                found = _SideBySide(make(), list(right), look.sizes, noise[0], cost.bytes)
            with rng.seeded(0):  # in a single run, draws that are not made from base noise come in the same order
                made = found((noise[0][None], noise[1][None]), *({k: v[None] for k, v in row.items()} for row in given))
        except Exception:  # anything that the model's own code raises on vmap's tensors
            continue
        if all(close(made[name][0], value) for name, value in right.items()):
            return found
    return None


class _Look(Recorder):
    """Answers calls for noise from its own generator, and keeps the answers.

    Args:
        device: Device of the noise.
    """

    def __init__(self, device: torch.device) -> None:
        super().__init__(in_place=True, gammas=False)
        self._device, self._generator = device, rng.stream(0, device=device)
        self._kept: dict[str, list[Tensor]] = {"normal": [], "uniform": []}

    def _next(self, kind: str, like: Tensor) -> Tensor:
        self.draws.append(Draw.like(kind, like))
        if kind == "rows":
            made = torch.randperm(*like.shape, device=self._device, generator=self._generator)
        else:
            fresh = torch.randn if kind == "normal" else torch.rand
            made = fresh(like.shape, dtype=like.dtype, device=self._device, generator=self._generator)
        self._kept["normal" if kind == "normal" else "uniform"].append(made.reshape(-1))
        return made

    def seen(self) -> Noise:
        """(n,) and (u,), in the widest of the requested types."""
        wide = any(draw.dtype == torch.float64 for draw in self.draws)
        empty = torch.zeros(0, device=self._device, dtype=torch.float64 if wide else torch.float32)
        normals, uniforms = (torch.cat([empty, *(made.to(empty) for made in kept)]) for kept in self._kept.values())
        return normals, uniforms
