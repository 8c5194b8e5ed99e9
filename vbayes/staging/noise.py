"""Base noise as an input: recorded, handed in, drawn for many runs."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from ..drawing.base_noise import Draw, Intercept

Noise = tuple[Tensor, Tensor]
"""(R, n) standard normals and (R, u) uniforms on (0, 1), or one replica of them: (n,), (u,)."""


class Recorder(Intercept):
    """Answers calls for base noise with fresh draws, and notes what was asked.

    Handed noise, it answers with that instead, in the order of the calls: the same noise gives the same numbers, staged
    or eager.

    Args:
        noise: To answer with.
        in_place: As for `Intercept`.
    """

    def __init__(self, noise: Noise | None = None, *, in_place: bool = False) -> None:
        super().__init__(self._next, in_place=in_place)
        self.noise = noise
        self.draws: list[Draw] = []
        self._used = {"normal": 0, "uniform": 0}

    @property
    def sizes(self) -> tuple[int, int]:
        """How many standard normals and uniforms were asked for."""
        return self._used["normal"], self._used["uniform"]

    def _next(self, kind: str, like: Tensor) -> Tensor:
        self.draws.append(draw := Draw.like(kind, like))
        start = self._used[kind]
        self._used[kind] = stop = start + like.numel()
        if self.noise is None:
            return draw.fresh(like.device)
        return self.noise[kind == "uniform"][start:stop].view(like.shape).to(like.dtype)


def draw_noise(
    sizes: tuple[int, int],
    replicas: int,
    like: Tensor,
    generator: torch.Generator | None = None,
    into: Noise | None = None,
) -> Noise:
    """Noise for `replicas` runs, from a generator; torch's own if None.

    Args:
        into: Noise of that shape that nobody needs any more: its memory is used again, and the numbers are the same. Fresh memory took half as
            long again as the drawing.
    """
    if into is not None:
        return into[0].normal_(generator=generator), into[1].uniform_(generator=generator)
    normals, uniforms = (
        fresh((replicas, size), dtype=like.dtype, device=like.device, generator=generator)
        for fresh, size in zip((torch.randn, torch.rand), sizes, strict=True)
    )
    return normals, uniforms


class FreshNoise:
    """Noise for one run after the other, from torch's own generator: the numbers that Pyro would draw there.

    Args:
        draws: The calls of one run.
        like: Of the type and device of the noise.
    """

    def __init__(self, draws: Sequence[Draw], like: Tensor) -> None:
        self._held: dict[str, Tensor] = {}
        self._parts: list[tuple[Draw, Tensor]] = []
        for kind in ("normal", "uniform"):
            sizes = [math.prod(draw.shape) if draw.kind == kind else 0 for draw in draws]
            self._held[kind] = like.new_empty(sum(sizes))
            parts = self._held[kind].split(sizes)
            self._parts += [(draw, part) for draw, part in zip(draws, parts, strict=True) if draw.kind == kind]
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
