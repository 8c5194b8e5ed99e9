"""Steps of several fits at once, by one program that has all of them in it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from ..errors import CaptureFailed
from ..staging.loop import Loop, Part, run_loops
from .engine_words import engine_of
from .failure import Failure
from .programs import Kind
from .staged import Staged

DIFFER = "The program depends on values of the arguments, which differ between these fits."


class SideBySide:
    """An engine over those of R fits of one pair, each with a state, noise and minibatches of its own.

    One that leaves the reals stays where it was, and the others go on.

    Args:
        engines: Of which the first was captured, and the others are like it.
        columns: What model and guide of each are called with.

    Raises:
        CaptureFailed: Their optimiser or their random numbers have no pure form; or their programs have values of their arguments built in, which differ.
    """

    several = True
    failure: Failure | None = None

    def __init__(self, engines: Sequence[Staged], columns: Sequence[Sequence[Any]]) -> None:
        for engine in engines:
            if (
                engine.state is None
                or engine.waits
                or not all(program.static for program in engine.programs.made.values())
            ):
                raise CaptureFailed("This optimiser, or these random numbers, have no pure form.")
        self._engines = list(engines)
        flat = [torch.stack(same) for same in zip(*(e.state.flat() for e in engines if e.state), strict=True)]
        first = engines[0].state
        assert first is not None
        self._like, self._state = first, first.filled(flat)
        self._loops: dict[Kind, Loop] = {}
        every = enumerate(zip(*columns, strict=True))
        self._stacked = {place: torch.stack(same) for place, same in every if _differ(same)}
        if engines[0].programs.differ(bool(self._stacked)):
            raise CaptureFailed(DIFFER)

    def take(self, count: int) -> list[list[float]]:
        """Up to `count` more steps: for each the R ELBOs in nats before it, NaN for a fit that has no next step."""
        every = [engine.upcoming(count) for engine in self._engines]
        parts = []
        for same in zip(*(blocks for blocks, _ in every), strict=True):
            first = same[0]
            if any(block.kind != first.kind for block in same):
                raise CaptureFailed(DIFFER)
            if first.kind not in self._loops:
                self._loops[first.kind] = self._engines[0].loop(
                    first.program, first.kind[0], len(self._engines), self._stacked
                )
            normals, uniforms = (torch.stack([block.noise[kind] for block in same], 1) for kind in (0, 1))
            indices = [block.index for block in same if block.index is not None]
            index = torch.stack(indices, 1) if indices else None
            each = [block.given for block in same if block.given is not None]
            given = torch.stack(each, 1) if each else None
            parts.append(Part(self._loops[first.kind], (normals, uniforms), index, first.columns, given=given))
        self._state, values = run_loops(self._state, parts, every[0][1])
        for engine in self._engines:
            engine.advance(len(values))
        if not len(values):
            self.failure = Failure("ELBO")  # of all of them; `why` of each engine says more
        return values.where(values.isfinite(), torch.nan).tolist()  # type: ignore[no-any-return]

    @property
    def how(self) -> str:
        """As `Staged.how`, side by side."""
        return engine_of(self._loops.values())

    def look_again(self) -> None:
        """Raises `CaptureFailed` where the model is not what it was; inside the first fit's scope."""
        first = self._engines[0]
        before = first.renewed
        first.look_again()
        if first.renewed > before:
            self._loops.clear()

    def finish(self) -> None:
        """Each fit's own engine stands where it is, to be finished in the scope of its pair."""
        for number, engine in enumerate(self._engines):
            engine.state = self._like.filled([tensor[number] for tensor in self._state.flat()])


def _differ(columns: Sequence[Any]) -> bool:
    first = columns[0]
    return any(each is not first and isinstance(each, Tensor) and not torch.equal(each, first) for each in columns)
