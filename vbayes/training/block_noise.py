"""The base noise of a run's steps: a function of seed and step, drawn many steps at a time."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

from torch import Tensor

from .. import rng
from ..staging import Noise, Program, draw_noise
from .minibatches import NOISE
from .programs import Kind

BLOCK = 1024  # steps whose noise is drawn together, at most
NUMBERS = 2**22  # and how many numbers that may be


@dataclass(frozen=True)
class Block:
    """Steps on minibatches of one kind, whose noise was drawn together.

    Attributes:
        kind: M, None for all rows, and which of the programs for so many.
        program: Of such a minibatch.
        noise: (n, normals) and (n, uniforms).
        index: (n, M) row numbers; None for all rows.
        columns: What the rows are of, where it changes from epoch to epoch.
        given: (n, k) options of the optimiser, where a schedule gives them.
    """

    kind: Kind
    program: Program
    noise: Noise
    index: Tensor | None
    columns: tuple[Any, ...] | None = None
    given: Tensor | None = None


class Needs(Protocol):
    """What needs noise: a `Program`, say."""

    @property
    def sizes(self) -> tuple[int, int]:
        """Standard normals and uniforms of a step."""
        ...


class BlockNoise:
    """Noise of a run.

    Args:
        seed: Of the run.
        like: Of the type and on the device of the noise.
    """

    def __init__(self, seed: int, like: Tensor) -> None:
        self._seed, self._like = seed, like
        self._held: dict[tuple[int, int], tuple[int, Noise]] = {}

    def left(self, program: Needs, step: int) -> int:
        """Steps from this one to the end of its block."""
        rows = _rows(program)
        return rows - (step - 1) % rows

    def __call__(self, program: Needs, step: int, count: int) -> Noise:
        """The noise of `count` steps from this one, of one block: (count, n) and (count, u)."""
        sizes = program.sizes
        number, start = divmod(step - 1, _rows(program))
        before, held = self._held.get(sizes, (None, None))
        if before != number:
            generator = rng.stream(self._seed, NOISE, *sizes, number, device=self._like.device)
            self._held[sizes] = number, draw_noise(sizes, _rows(program), self._like, generator, held)
        normals, uniforms = self._held[sizes][1]
        return normals[start : start + count], uniforms[start : start + count]


def _rows(program: Needs) -> int:
    """Steps whose noise is drawn together."""
    return max(1, min(BLOCK, NUMBERS // max(1, sum(program.sizes))))
