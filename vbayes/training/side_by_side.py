"""Steps of several fits in parallel, by one program for all of them."""

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
    """An engine for R fits of one pair in parallel, each with its own state, noise and minibatches.

    A fit that becomes NaN or infinite keeps its last finite state, and the others continue.

    Args:
        engines: The engines of the fits; the first was captured, and the others are like it.
        columns: The arguments of model and guide of each fit.

    Raises:
        CaptureFailed: Their optimiser or their random numbers have no pure form; or their programs have built in values of their arguments, and these differ.
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
        """Takes up to `count` more steps; returns for each the R ELBOs before it in nats, NaN for a fit that has stopped."""
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
            self.failure = Failure("ELBO")  # for all of them; `why` of each engine gives details
        return values.where(values.isfinite(), torch.nan).tolist()  # type: ignore[no-any-return]

    @property
    def how(self) -> str:
        """Like `Staged.how`, for fits in parallel."""
        return engine_of(self._loops.values())

    def look_again(self) -> None:
        """Raises `CaptureFailed` if the model has changed; called inside the first fit's scope."""
        first = self._engines[0]
        before = first.renewed
        first.look_again()
        if first.renewed > before:
            self._loops.clear()

    def finish(self) -> None:
        """Brings each fit's own engine to the current state, to be finished in the scope of its pair."""
        for number, engine in enumerate(self._engines):
            engine.state = self._like.filled([tensor[number] for tensor in self._state.flat()])


def _differ(columns: Sequence[Any]) -> bool:
    first = columns[0]
    return any(each is not first and isinstance(each, Tensor) and not torch.equal(each, first) for each in columns)
