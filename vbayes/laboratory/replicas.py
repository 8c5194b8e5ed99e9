"""Many independent gradients of one pair under one estimator."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import Any

import torch
from pyro.infer import ELBO
from torch import Tensor

from .. import rng
from ..data.dataset import Batch
from ..errors import CaptureFailed, warn
from ..estimators.base import gradient
from ..estimators.remembering import Averaging, Remembering, with_memory
from ..pair.pair import Pair
from ..staging import Noise, Program, Replicated, draw_noise, replicate, stage
from ..staging.capture import Tensors
from ..validation import validation, vmap

SETTLED = 200  # maximum number of draws with which a memory is filled
FORGOTTEN = 0.01  # fraction of an average that further draws would change
TIMED = 50  # compiled gradients that are timed together, as a single one takes less time than the call


class Replicas:
    """Draws thousands of gradients, by a captured program, or else one by one.

    Args:
        pair: An initialised pair.
        estimator: Any `pyro.infer.ELBO`.
        batch: Arguments for model and guide.
        compiled: Whether to compile it.
        backend: The back end; see `staging.backends.made_by`.
        memory: Memory that a chunk of gradients may take, in bytes; a quarter of the free memory if None.
        varying: Whether other batches of the same shapes will follow, so that a program must not have values of the batch built in.

    Attributes:
        why_slow: Why gradients are computed one by one; None if they are not.
    """

    def __init__(
        self, pair: Pair, estimator: ELBO, batch: Batch, *, compiled: bool = False, backend: str = "auto", memory: int | None = None,
        varying: bool = False,
    ) -> None:  # fmt: skip
        pair = pair.copy()  # a copy, which may be given a memory
        self.estimator: Any = with_memory(estimator, pair, batch)
        own = self.estimator.memory.buffers() if isinstance(self.estimator, Remembering) else ()
        kept = {id(buffer) for buffer in own}
        self._names = [name for name, buffer in pair.buffers.items() if id(buffer) in kept]
        self._memories: list[Tensors] = []
        self.batch = batch
        self.program: Program | None = None
        self.why_slow: str | None = None
        try:
            self.program = stage(pair, self.estimator, batch)
            if varying and self.program.guards:
                raise CaptureFailed(
                    f"Pair {pair.name!r} reads values of its arguments{self.program.guards.line}, which differ between minibatches."
                )
            self._empty = {name: self.program.buffers[name] for name in self._names}
            parameters = _values(pair)
            how: dict[str, Any] = {"memory": memory, "compiled": compiled, "backend": backend}
            self._many = Replicated(self.program, parameters, batch.args, **how)
            self._try_two(pair)
        except CaptureFailed as error:
            self.program, self.why_slow = None, str(error)
            warn(f"{error}\nIts gradients are computed one by one, which is slow.")

    @property
    def sizes(self) -> tuple[int, int]:
        """Base normals and uniforms for one replica; (0, 0) if one by one."""
        return self.program.sizes if self.program else (0, 0)

    def gradients(self, pair: Pair, noise: Noise, seed: int) -> Iterator[Tensor]:
        """R gradients of the bound at the pair's parameters, in chunks of shape (r, P).

        P runs over `pair.parameters` in their order, each flattened.

        Args:
            pair: Where to take the gradient: the pair given at first, or a copy at other values.
            noise: (R, ≥ n) and (R, ≥ u), of which the first n and u columns are used: estimators that get the
                same noise see the same draws.
            seed: Seed for the randomness that is not base noise.
        """
        if self.program is None:
            yield from self._one_by_one(pair, len(noise[0]), seed)
            return
        if self._names and not self._memories:
            self.settle(pair, 0)
        with rng.seeded(seed), torch.no_grad():
            yield from self._many(_values(pair), self._own(noise), self.batch.args)

    def with_values(self, pair: Pair, noise: Noise, seed: int) -> tuple[Tensor, Tensor]:
        """(R, P) gradients of a captured program, and the (R,) values beside them.

        Args:
            pair, noise, seed: As for `gradients`.
        """
        assert self.program is not None
        together = self._many.side_by_side(len(noise[0]))
        gradients, values = [], []
        with rng.seeded(seed), torch.no_grad():
            for chunk in zip(*(numbers.split(together) for numbers in self._own(noise)), strict=True):
                found, value = replicate(self.program, _values(pair), chunk, self.batch.args)
                gradients.append(torch.cat([found[name].reshape(len(value), -1) for name in found], 1))
                values.append(value)
        return torch.cat(gradients), torch.cat(values)

    def _own(self, noise: Noise) -> Noise:
        """The part of the noise that the program uses."""
        assert self.program is not None
        normals, uniforms = (n[:, :size].contiguous() for n, size in zip(noise, self.sizes, strict=True))
        for start, size in self.program.sizes.rows:  # the rows of a subsampling plate are the order of uniforms
            uniforms[:, start : start + size] = uniforms[:, start : start + size].argsort(1).to(uniforms)
        return normals, uniforms

    def settle(
        self,
        pair: Pair,
        seed: int,
        *,
        memories: int = 1,
        batch: Callable[[], Batch] | None = None,
        learned: Mapping[str, Tensor] | None = None,
    ) -> None:
        """Fills an estimator's memories, each with its own draws at the pair's parameters, as in a fit that stayed there.

        The randomness of a memory is part of a gradient's noise, so each block of gradients has its own: see `recall`. Memories are filled
        in parallel, starting from `Remembering.init`. Gradients drawn later don't change them. Does nothing for an estimator without a memory.

        Args:
            pair: As for `gradients`.
            seed: Seed for the draws.
            memories: Number of memories. They differ if an estimator averages over its draws.
            batch: Source of the rows of each draw, new for each memory and draw; the rows of `self.batch` if None.
            learned: What the estimator remembers after a fit, see `remembered`. It is used unchanged, except for moving averages, which are filled again.
        """
        if self.program is None or not self._names:
            return
        if learned and not isinstance(self.estimator, Averaging):
            self._memories = [{key: learned[key.split(".", 2)[2]].to(self._empty[key]) for key in self._names}]
            self.recall(0)
            return
        count = SETTLED
        if isinstance(self.estimator, Averaging):
            count = min(SETTLED, math.ceil(math.log(FORGOTTEN) / math.log(max(self.estimator.decay, FORGOTTEN))))
        else:  # it counts draws, whatever their values
            memories = 1
        parameters, self._memories = _values(pair), []
        room = self._many.side_by_side(memories)
        with rng.seeded(seed):
            for start in range(0, memories, room):
                found = self._filled(parameters, count, min(room, memories - start), batch)
                rows = zip(*(values.unbind() for values in found.values()), strict=True)
                self._memories += [dict(zip(found, row, strict=True)) for row in rows]
        self.recall(0)

    def _filled(
        self, parameters: Tensors, count: int, memories: int, batch: Callable[[], Batch] | None = None
    ) -> Tensors:
        """Name → (memories, …): the state of empty memories after a number of draws each."""
        assert self.program is not None
        names = self._names
        others = self.program.buffers
        like = next(iter(parameters.values()))
        found = {name: value.expand(memories, *value.shape) for name, value in self._empty.items()}
        where = {name: 0 if name in found else None for name in others}
        rows = None if batch is None else 0
        many = vmap(self.program.graph, in_dims=(None, where, 0, rows), randomness="different")
        for _ in range(count):
            args = self.batch.args
            if batch is not None:
                args = tuple(map(torch.stack, zip(*(batch().args for _ in range(memories)), strict=True)))
            _, _, buffers = many(parameters, {**others, **found}, draw_noise(self.program.sizes, memories, like), args)
            found = {name: buffers[name] for name in names}
        return found

    def recall(self, block: int) -> None:
        """Selects the memory for the gradients drawn from now on, one for each block; if there are fewer memories, they are reused in turn."""
        if self.program is None or not self._memories:
            return
        buffers = {**self.program.buffers, **self._memories[block % len(self._memories)]}
        self.program = replace(self.program, buffers=buffers)
        self._many.remember(buffers)

    def task(self, pair: Pair, *, together: bool = False) -> tuple[Callable[[], object], int]:
        """A task to time inside the pair's scope, and its number of gradients, as they are computed in a fit.

        Args:
            together: Whether to time many gradients at once if the program is not machine code, to measure its arithmetic without the overhead of calls.
        """
        if self.program and (self._many.native or together):
            parameters = _values(pair)
            noise = draw_noise(self.program.sizes, TIMED, next(iter(parameters.values())))
            return lambda: list(self._many(parameters, noise, self.batch.args)), TIMED
        model, guide = pair.scaled(self.batch.total)
        return lambda: self.estimator.loss_and_grads(model, guide, *self.batch.args), 1

    def _try_two(self, pair: Pair) -> None:
        """Raises `CaptureFailed` if a captured program has an operation that can't be replicated."""
        assert self.program is not None
        with rng.seeded(0), torch.no_grad():
            noise = draw_noise(self.program.sizes, 2, next(iter(pair.parameters.values())))
            try:
                list(self._many(_values(pair), noise, self.batch.args))
                if self._names:
                    self._filled(_values(pair), 1, 2)
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


def _values(pair: Pair) -> Tensors:
    """Name → value of a parameter, without gradients."""
    return {name: value.detach() for name, value in pair.parameters.items()}
