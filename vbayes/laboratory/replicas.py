"""Many independent gradients of one pair under one estimator."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import Any

import torch
from pyro.infer import ELBO
from torch import Tensor

from .. import rng
from ..data.dataset import Batch
from ..errors import CaptureFailed
from ..estimators.base import gradient
from ..estimators.memory import Averaging, Remembering, with_memory
from ..pair.pair import Pair
from ..staging import Noise, Program, Replicated, draw_noise, stage
from ..validation import validation

SETTLED = 200  # draws that a memory is filled with
FORGOTTEN = 0.05  # what may be left of an average when it counts as another
TIMED = 50  # compiled gradients that are timed together: one alone is shorter than the call


class Replicas:
    """Draws gradients by the thousand: by a captured program, or else one by one.

    Args:
        pair: Initialised.
        estimator: Any `pyro.infer.ELBO`.
        batch: Arguments for model and guide.
        compiled: Make machine code of it.
        memory: Bytes that a chunk of gradients may take; a quarter of what is free if None.

    Attributes:
        why_slow: Why they run one by one; None if they do not.
    """

    def __init__(
        self, pair: Pair, estimator: ELBO, batch: Batch, *, compiled: bool = False, memory: int | None = None
    ) -> None:
        pair = pair.copy()  # which may be given a memory to hold
        self.estimator: Any = with_memory(estimator, pair)
        self._pair = pair
        self.batch = batch
        self.program: Program | None = None
        self.why_slow: str | None = None
        try:
            self.program = stage(pair, self.estimator, batch)
            parameters = _values(pair)
            self._many = Replicated(self.program, parameters, batch.args, memory=memory, compiled=compiled)
            self._try_two(pair)
            self.settle(pair, 0)
        except CaptureFailed as error:
            self.program, self.why_slow = None, str(error)
            warnings.warn(f"{error}\nIts gradients are drawn one by one, which is slow.", stacklevel=3)

    @property
    def sizes(self) -> tuple[int, int]:
        """Base normals and uniforms for one replica; (0, 0) if one by one."""
        return self.program.sizes if self.program else (0, 0)

    def gradients(self, pair: Pair, noise: Noise, seed: int) -> Iterator[Tensor]:
        """R gradients of the bound at the pair's parameters, in chunks of shape (r, P).

        P runs over `pair.parameters` in their order, each flattened.

        Args:
            pair: Where to take the gradient: the pair given at first, or a copy at other values.
            noise: (R, ≥ n) and (R, ≥ u), of which the first n and u columns are used: estimators that are handed the
                same noise see the same draws.
            seed: Of the randomness that is not base noise.
        """
        if self.program is None:
            yield from self._one_by_one(pair, len(noise[0]), seed)
            return
        parameters = _values(pair)
        normals, uniforms = (n[:, :size].contiguous() for n, size in zip(noise, self.sizes, strict=True))
        with rng.seeded(seed), torch.no_grad():
            yield from self._many(parameters, (normals, uniforms), self.batch.args)

    def settle(self, pair: Pair, seed: int) -> None:
        """Lets an estimator that remembers forget, and see draws at the pair's parameters as a fit that stayed there would have; the
        gradients drawn then are with the memory that it has in the end, which none of them changes, up to the next `refresh`.
        """
        if self.program is None or not isinstance(self.estimator, Remembering):
            return
        parameters = _values(pair)
        kept = {id(buffer) for buffer in self.estimator.memory.buffers()}
        held = self._pair.buffers
        buffers = {
            name: torch.zeros_like(value) if id(held[name]) in kept else value
            for name, value in self.program.buffers.items()
        }
        self._see(parameters, buffers, SETTLED, seed)

    def refresh(self, pair: Pair, seed: int) -> None:
        """Lets moving averages see as many draws more as they need to be others: what they happen to be is part of a gradient's noise."""
        if self.program is None or not isinstance(self.estimator, Averaging):
            return
        decay = max(self.estimator.decay, FORGOTTEN)
        count = min(SETTLED, math.ceil(math.log(FORGOTTEN) / math.log(decay)))
        self._see(_values(pair), self.program.buffers, count, seed)

    def _see(self, parameters: Mapping[str, Tensor], buffers: Mapping[str, Tensor], count: int, seed: int) -> None:
        assert self.program is not None
        with rng.seeded(seed):
            normals, uniforms = draw_noise(self.program.sizes, count, next(iter(parameters.values())))
            for noise in zip(normals, uniforms, strict=True):
                _, _, buffers = self.program.graph(parameters, buffers, noise, self.batch.args)
        self.program = replace(self.program, buffers={name: value.detach() for name, value in buffers.items()})
        self._many.remember(self.program.buffers)

    def task(self, pair: Pair, *, together: bool = False) -> tuple[Callable[[], object], int]:
        """Something to time, inside the pair's scope, and how many gradients that is: as a fit pays for them.

        Args:
            together: Of a program that is not machine code, many at once: what its arithmetic costs, without the calls around it.
        """
        if self.program and (self._many.native or together):
            parameters = _values(pair)
            noise = draw_noise(self.program.sizes, TIMED, next(iter(parameters.values())))
            return lambda: list(self._many(parameters, noise, self.batch.args)), TIMED
        model, guide = pair.scaled(self.batch.total)
        return lambda: self.estimator.loss_and_grads(model, guide, *self.batch.args), 1

    def _try_two(self, pair: Pair) -> None:
        """Raises `CaptureFailed` where a captured program has an operation that can't be replicated."""
        assert self.program is not None
        with rng.seeded(0):
            noise = draw_noise(self.program.sizes, 2, next(iter(pair.parameters.values())))
            try:
                list(self.gradients(pair, noise, 0))
            except (RuntimeError, NotImplementedError) as error:
                raise CaptureFailed(
                    f"Pair {pair.name!r} can't be replicated: {' '.join(str(error).split())}"
                ) from error

    def _one_by_one(self, pair: Pair, replicas: int, seed: int) -> Iterator[Tensor]:
        model, guide = pair.scaled(self.batch.total)
        with pair.scope(), rng.seeded(seed), validation(False):
            for _ in range(replicas):
                drawn = gradient(self.estimator, model, guide, *self.batch.args)
                parts = [drawn.get(name, torch.zeros_like(value)) for name, value in pair.parameters.items()]
                yield torch.cat([p.reshape(-1) for p in parts])[None]


def _values(pair: Pair) -> dict[str, Tensor]:
    """Name → value of a parameter, which takes no gradients."""
    return {name: value.detach() for name, value in pair.parameters.items()}
