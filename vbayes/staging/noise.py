"""Base noise as an input: recorded, supplied, and drawn for many runs."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch
from torch import Tensor

from ..drawing.base_noise import Draw, Intercept
from ..drawing.gammas import FROM_NOISE

Noise = tuple[Tensor, Tensor]
"""(R, n) standard normals and (R, u) uniforms on (0, 1), or one replica of them: (n,), (u,). If a plate draws its rows, the row numbers are among the uniforms."""


class Sizes(tuple[int, int]):
    """Standard normals and uniforms that a run needs.

    Attributes:
        rows: Positions of permutations among the uniforms, each with its length.
    """

    rows: tuple[tuple[int, int], ...]

    @classmethod
    def of(cls, draws: Iterable[Draw]) -> Sizes:
        """The sizes of some calls."""
        normals, uniforms, rows = 0, 0, []
        for draw in draws:
            size = math.prod(draw.shape)
            if draw.kind == "normal":
                normals += size
                continue
            if draw.kind == "rows":
                rows.append((uniforms, size))
            uniforms += size
        made = cls((normals, uniforms))
        made.rows = tuple(rows)
        return made


class Recorder(Intercept):
    """Answers calls for base noise with fresh draws, and records the calls.

    If noise is given, it answers with that instead, in the order of the calls, so that the same noise gives the same numbers, staged
    or eager.

    Args:
        noise: The noise to answer with.
        in_place: As for `Intercept`.
        rows: Permutations to answer with if no noise is given; missing ones are drawn.
        gammas: Whether draws of gammas and Dirichlets are also made from noise; otherwise torch draws them.

    Attributes:
        draws: The recorded calls.
        rows: The permutations that were used as answers.
    """

    def __init__(
        self, noise: Noise | None = None, *, in_place: bool = False, rows: Iterable[Tensor] = (), gammas: bool = True
    ) -> None:
        super().__init__(self._next, in_place=in_place)
        self.noise, self._given, self._gammas = noise, iter(rows), gammas
        self.draws: list[Draw] = []
        self.rows: list[Tensor] = []
        self._used = [0, 0]

    @property
    def sizes(self) -> Sizes:
        """The numbers of standard normals and uniforms that were requested."""
        return Sizes.of(self.draws)

    def _answer(self, func: Callable[..., Any], args: tuple[Any, ...], kwargs: Any) -> Any:
        if func is torch.randperm and len(args) == 1 and not kwargs.keys() - {"device"}:
            return self._next("rows", torch.empty(args[0], dtype=torch.long, device=kwargs.get("device")))
        if self._gammas and func in FROM_NOISE and len(args) == 1 and not kwargs:
            return FROM_NOISE[func](args[0], self._next)
        return super()._answer(func, args, kwargs)

    def _next(self, kind: str, like: Tensor) -> Tensor:
        self.draws.append(draw := Draw.like(kind, like))
        which = int(kind != "normal")
        start = self._used[which]
        self._used[which] = stop = start + like.numel()
        if self.noise is not None:
            made = self.noise[which][start:stop].view(like.shape).to(like.dtype)
        else:
            given = next(self._given, None) if kind == "rows" else None
            made = draw.fresh(like.device) if given is None else given
        if kind == "rows":
            self.rows.append(made)
        return made


def draw_noise(
    sizes: tuple[int, int],
    replicas: int,
    like: Tensor,
    generator: torch.Generator | None = None,
    into: Noise | None = None,
    each: Iterable[torch.Generator] | None = None,
) -> Noise:
    """Noise for `replicas` runs, from a generator; torch's own if None.

    Args:
        sizes: Sizes of one run; plain numbers mean that there are no rows.
        each: A generator for the rows of each run.
        into: Noise of that shape that is no longer needed, whose memory is reused; the numbers are the same. Allocating fresh memory took half as
            long as drawing.
    """
    if into is not None:
        normals, uniforms = into[0].normal_(generator=generator), into[1].uniform_(generator=generator)
    else:
        normals, uniforms = (
            fresh((replicas, size), dtype=like.dtype, device=like.device, generator=generator)
            for fresh, size in zip((torch.randn, torch.rand), sizes, strict=True)
        )
    put_rows(sizes, uniforms, itertools.repeat(generator) if each is None else each)
    return normals, uniforms


def told_rows(sizes: Sizes, uniforms: Tensor) -> list[Tensor]:
    """The permutations among the (u,) uniforms of a run."""
    return [uniforms[start : start + size].long() for start, size in sizes.rows]


def tell_rows(sizes: Sizes, uniforms: Tensor, rows: Iterable[Tensor]) -> None:
    """Puts permutations among the (u,) uniforms of a run."""
    for (start, size), one in zip(sizes.rows, rows, strict=False):
        uniforms[start : start + size] = one


def put_rows(sizes: tuple[int, int], uniforms: Tensor, generators: Iterable[torch.Generator | None]) -> None:
    """Adds the permutations by which plates draw their rows.

    Args:
        uniforms: (R, u), in which they are written.
        generators: For each run, the generator of its permutations.
    """
    if isinstance(sizes, Sizes) and sizes.rows:
        for one, generator in zip(uniforms, generators, strict=False):
            where = uniforms.device if generator is None else generator.device
            rows = (torch.randperm(size, generator=generator, device=where) for _, size in sizes.rows)
            tell_rows(sizes, one, rows)


class FreshNoise:
    """Yields noise for one run after the other, from torch's global generator: the numbers that Pyro would draw.

    Args:
        draws: The calls of one run.
        like: A tensor with the dtype and device of the noise.
    """

    def __init__(self, draws: Sequence[Draw], like: Tensor) -> None:
        self._held: dict[str, Tensor] = {}
        self._parts: list[tuple[Draw, Tensor]] = []
        for kind, kinds in (("normal", ("normal",)), ("uniform", ("uniform", "rows"))):
            sizes = [math.prod(draw.shape) if draw.kind in kinds else 0 for draw in draws]
            self._held[kind] = like.new_empty(sum(sizes))
            parts = self._held[kind].split(sizes)
            self._parts += [(draw, part) for draw, part in zip(draws, parts, strict=True) if draw.kind in kinds]
        self._parts.sort(key=lambda part: next(i for i, draw in enumerate(draws) if draw is part[0]))

    def __call__(self) -> Noise:
        """(n,) normals and (u,) uniforms, in the same memory each time."""
        for draw, part in self._parts:
            if draw.dtype != part.dtype:
                part.copy_(draw.fresh(part.device).view(-1))
            elif draw.kind == "normal":
                part.normal_()
            else:
                part.uniform_()
        return self._held["normal"], self._held["uniform"]
