"""The base noise of a run's steps: a function of seed and step, drawn for many steps at a time."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor

from .. import rng
from ..staging import Noise, Program, draw_noise
from ..staging.noise import Sizes, put_rows
from .minibatches import NOISE, ROWS
from .programs import Kind

BLOCK = 1024  # maximum number of steps whose noise is drawn together
NUMBERS = 2**22  # and maximum size of that noise


@dataclass(frozen=True)
class Block:
    """Steps on minibatches of one kind, with noise drawn together.

    Attributes:
        kind: M, or None for all rows, and the number of the program among those for M rows.
        program: The program for such a minibatch.
        noise: (n, normals) and (n, uniforms).
        index: (n, M) row numbers; None for all rows.
        columns: The data that the rows are taken from, if these change from epoch to epoch.
        given: (n, k) options of the optimiser, if they are set by a schedule.
    """

    kind: Kind
    program: Program
    noise: Noise
    index: Tensor | None
    columns: tuple[Any, ...] | None = None
    given: Tensor | None = None


class Needs(Protocol):
    """Something that needs noise, such as a `Program`."""

    @property
    def sizes(self) -> Sizes:
        """Standard normals and uniforms of a step."""
        ...


class BlockNoise:
    """The noise of a run.

    Args:
        seed: Seed for the run.
        like: A tensor of the type and on the device of the noise.
    """

    def __init__(self, seed: int, like: Tensor) -> None:
        self._seed, self._like = seed, like
        self._held: dict[Any, tuple[int, Noise]] = {}

    def left(self, program: Needs, step: int) -> int:
        """The number of steps from this one to the end of its block."""
        rows = _rows(program)
        return rows - (step - 1) % rows

    def __call__(self, program: Needs, step: int, count: int) -> Noise:
        """The noise of `count` steps from this one on, within one block: (count, n) and (count, u)."""
        sizes = program.sizes
        number, start = divmod(step - 1, _rows(program))
        kind = sizes, sizes.rows
        before, held = self._held.get(kind, (None, None))
        if before != number:
            generator, count_of_block = (
                rng.stream(self._seed, NOISE, *sizes, number, device=self._like.device),
                _rows(program),
            )
            each = self._streams(step - start, count_of_block)
            self._held[kind] = number, draw_noise(sizes, count_of_block, self._like, generator, held, each)
        normals, uniforms = self._held[kind][1]
        return normals[start : start + count], uniforms[start : start + count]

    def rows(self, program: Program, step: int, count: int) -> Tensor:
        """(count, u): the rows that plates draw in some steps, without the uniforms around them."""
        found = self._like.new_zeros(count, program.sizes[1])
        put_rows(program.sizes, found, self._streams(step, count))
        return found

    def _streams(self, step: int, count: int) -> Iterator[torch.Generator]:
        """The generators of the rows in some steps. They don't depend on the block, so that programs for other values draw the same rows. Rows are drawn on the CPU whatever the device."""
        return (rng.stream(self._seed, ROWS, number) for number in range(step, step + count))


def _rows(program: Needs) -> int:
    """Steps whose noise is drawn together."""
    return max(1, min(BLOCK, NUMBERS // max(1, sum(program.sizes))))
