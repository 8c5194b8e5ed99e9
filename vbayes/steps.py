"""Optimiser steps of a fit, taken in two ways: by Pyro, one after the other, or by one program, many in a call."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from pyro.infer import ELBO, SVI
from torch import Tensor

from . import rng
from .dataset import Batch, Dataset
from .errors import CaptureFailed
from .optimizer import GuardedOptimizer, LeftTheReals, OneOptimizer
from .pair import Pair
from .sites import sites
from .staging import Compiled, Noise, Program, Recorder, draw_noise, faithful, stage
from .staging.loop import Loop, LoopState
from .staging.update import Updates

ORDER, NOISE = 0, 1  # what a stream of random numbers is for
BLOCK = 1024  # steps whose noise is drawn together, at most
NUMBERS = 2**22  # and how many numbers that may be
RARE = 0.05  # of the steps: too few to compile for, as those of an epoch's last, smaller minibatch often are
FIRST_LOOK, LATER = 64, 4  # steps after which a program is held against Pyro again, and how much later the next time
CHANGED = (
    "Pair {pair!r} has changed since it was captured, {steps} steps ago: model or guide must depend on something beside "
    "parameters, arguments and draws, such as a counter of its own. Hand that in as a tensor argument."
)
WORTH = 300  # steps from which compiling pays: it takes some seconds, and saves some ten milliseconds in each step

Stepper = OneOptimizer | GuardedOptimizer


@dataclass(frozen=True)
class Failure:
    """Why there is no next step.

    Attributes:
        what: What is not finite.
        sites: Those whose log-density is not finite there.
    """

    what: str
    sites: tuple[str, ...]


class Order:
    """Which rows each step takes: the order of an epoch is a function of seed and epoch.

    Args:
        data: All of it.
        batch_size: M; None takes all rows in each step.
        seed: Of the fit.
    """

    def __init__(self, data: Dataset, batch_size: int | None, seed: int) -> None:
        self._data, self._size, self._seed = data, batch_size, seed
        self.per_epoch = 1 if batch_size is None else math.ceil(len(data) / batch_size)
        self._rest = len(data) % batch_size if batch_size else 0
        self._held: tuple[int, list[Tensor | None]] = 0, []

    def epoch(self, step: int) -> int:
        """The epoch, from 1, of a step, from 1."""
        return (step - 1) // self.per_epoch + 1

    def share(self, size: int | None) -> float:
        """Of all steps, how many take so many rows."""
        return 1 / self.per_epoch if size == self._rest else 1 - bool(self._rest) / self.per_epoch

    def index(self, step: int) -> Tensor | None:
        """The rows of a step; None for all of them."""
        epoch = self.epoch(step)
        if self._held[0] != epoch:
            self._held = epoch, self._data.epoch(self._size, generator=rng.stream(self._seed, ORDER, epoch))
        return self._held[1][(step - 1) % self.per_epoch]


class Eager:
    """Steps by `pyro.infer.SVI`. It draws from the global generators.

    Args:
        pair: In whose scope all of this runs.
        estimator: Whose gradient is followed.
        data: Its batches are what model and guide are called with.
        order: Of the batches.
        stepper: Of the pair's leaves.
        taken: Steps so far.

    Attributes:
        failure: Set when there is no next step.
    """

    several = False
    failure: Failure | None = None

    def __init__(self, pair: Pair, estimator: ELBO, data: Dataset, order: Order, stepper: Stepper, taken: int) -> None:
        self._pair, self._data, self._order, self._stepper, self._taken = pair, data, order, stepper, taken
        model, guide = pair.scaled(len(data))
        method: Any = estimator
        # As a bare function Pyro lets us look at the loss before it steps.
        self._svi = SVI(model, guide, stepper, loss=method.loss, loss_and_grads=_finite(method.loss_and_grads))

    def take(self, count: int) -> list[float]:
        """Up to `count` more steps: the ELBO of each, in nats, before it."""
        elbos: list[float] = []
        for step in range(self._taken + 1, self._taken + count + 1):
            batch = self._data.batch(self._pair.model, self._order.index(step))
            here = rng.get_state()
            try:
                loss = self._svi.step(*batch.args)
            except LeftTheReals as error:
                rng.set_state(here)
                self.failure = Failure(str(error), culprits(self._pair, batch))
                break
            self._taken = step
            if step % self._order.per_epoch == 0:
                self._stepper.end_epoch()
            elbos.append(-float(loss[0] if isinstance(loss, tuple) else loss))
        return elbos

    def finish(self) -> None:
        """Nothing is held back."""


def _finite(loss_and_grads: Callable[..., Any]) -> Callable[..., Any]:
    def checked(*args: Any, **kwargs: Any) -> Any:
        loss = loss_and_grads(*args, **kwargs)
        if not all(math.isfinite(part) for part in (loss if isinstance(loss, tuple) else (loss,))):
            raise LeftTheReals("ELBO")
        return loss

    return checked


class Staged:
    """Steps by a captured program. The base noise of a step is a function of seed and step.

    Args:
        pair, estimator, data, order, stepper, taken: As for `Eager`.
        seed: Of the fit.
        programs: Of another fit of the same pair, rows in a minibatch → program.

    Attributes:
        programs: Rows in a minibatch → what is captured for it.
        state: Where it stands; None where the optimiser itself takes the steps, because it has no pure form.

    Raises:
        CaptureFailed: As `stage`.
    """

    several = True
    failure: Failure | None = None

    def __init__(
        self,
        pair: Pair,
        estimator: ELBO,
        data: Dataset,
        order: Order,
        stepper: Stepper,
        taken: int,
        seed: int,
        programs: dict[int | None, Program] | None = None,
    ) -> None:
        self._pair, self._data, self._order, self._stepper, self._taken = pair, data, order, stepper, taken
        self._estimator, self._seed = estimator, seed
        leaves = pair.leaves
        self._like = next(iter(leaves.values()))
        self._updates = Updates.of(stepper.each(leaves), leaves)
        self.programs = {} if programs is None else programs
        self._loops: dict[int | None, Loop] = {}
        self._gradients: dict[int | None, Compiled] = {}
        self._blocks: dict[tuple[int, int], tuple[int, Noise]] = {}
        self._next_look = taken + FIRST_LOOK
        self._program(order.index(taken + 1))  # what can't be captured says so now
        self.state: LoopState | None = None
        if self._updates:
            parameters = {name: leaf.detach() for name, leaf in leaves.items()}
            steps, states = self._updates.read()
            self.state = LoopState(steps, parameters, states, pair.buffers)

    def take(self, count: int) -> list[float]:
        """Up to `count` more steps: the ELBO of each, in nats, before it."""
        self._look_again()
        elbos: list[float] = []
        while len(elbos) < count and self.failure is None:
            elbos += self._run(count - len(elbos))
        return elbos

    def _look_again(self) -> None:
        """Now and then, more and more rarely: whether the model still is what it was when it was captured."""
        if self._taken < self._next_look:
            return
        self._next_look = LATER * self._taken
        index = self._order.index(self._taken + 1)
        batch = self._data.batch(self._pair.model, index)
        if not faithful(self._pair, self._estimator, self._program(index), batch, self._taken):
            raise CaptureFailed(CHANGED.format(pair=self._pair.name, steps=self._taken))

    def finish(self) -> None:
        """Hands the pair's parameters and buffers and the optimiser's state to where others look for them."""
        if self.state and self._updates:
            leaves = self._pair.leaves
            with torch.no_grad():
                for name, value in self.state.parameters.items():
                    leaves[name].data = value.clone()
            self._pair.set_buffers(self.state.buffers)
            self._updates.write(int(self.state.steps), self.state.optimizer)

    def upcoming(self, count: int) -> tuple[Program, Noise, Tensor | None]:
        """The next steps, up to `count`, whose noise is of one block and whose minibatches are of one size.

        Returns:
            Their program, noise (n, normals) and (n, uniforms), and rows (n, M).
        """
        first = self._taken + 1
        rows = self._order.index(first)
        program = self._program(rows)
        normals, uniforms = self._noise(program, first)
        count = min(count, len(normals))
        if rows is None:
            return program, (normals[:count], uniforms[:count]), None
        indices = [rows]
        for step in range(first + 1, first + count):
            following = self._order.index(step)
            if following is None or len(following) != len(rows):
                break
            indices.append(following)
        return program, (normals[: len(indices)], uniforms[: len(indices)]), torch.stack(indices)

    def _run(self, count: int) -> list[float]:
        program, noise, index = self.upcoming(count)
        if self.state is None:
            values = self._one_by_one(program, noise, index)
        else:
            self.state, reported = self._loop(program, index).run(self.state, noise, index)
            values = reported.tolist()
        self.advance(len(values))
        if len(values) < len(noise[0]):
            self.finish()
            row = noise[0][len(values)], noise[1][len(values)]
            self.failure = self._why(program, row, None if index is None else index[len(values)])
        return values

    def advance(self, steps: int) -> None:
        """So many more steps have been taken."""
        self._taken += steps

    def _program(self, index: Tensor | None) -> Program:
        size = None if index is None else len(index)
        if size not in self.programs:
            self.programs[size] = stage(self._pair, self._estimator, self._data.batch(self._pair.model, index))
        return self.programs[size]

    def _loop(self, program: Program, index: Tensor | None) -> Loop:
        size = None if index is None else index.shape[-1]
        if size not in self._loops:
            self._loops[size] = self.loop(program, size)
        return self._loops[size]

    def loop(self, program: Program, size: int | None, together: int | None = None) -> Loop:
        """Steps on minibatches of a size."""
        assert self.state and self._updates
        columns = self._data.batch(self._pair.model).args
        # Not for its number of steps, which resuming would change: resumed or not, it is the same program.
        often = self._order.share(size) > RARE
        return Loop(program, self._updates.rules, self.state, columns, size, together=together, compiled=often)

    def _one_by_one(self, program: Program, noise: Noise, index: Tensor | None) -> list[float]:
        """The gradient by the program, the step by the optimiser itself."""
        leaves, values = self._pair.leaves, []
        size = None if index is None else index.shape[-1]
        for i, (normals, uniforms) in enumerate(zip(*noise, strict=True)):
            args = self._data.batch(self._pair.model, None if index is None else index[i]).args
            parameters = {name: leaf.detach() for name, leaf in leaves.items()}
            inputs = parameters, self._pair.buffers, (normals, uniforms), args
            if size not in self._gradients:
                self._gradients[size] = Compiled(program.graph, *inputs)
            gradients, value, buffers = self._gradients[size](*inputs)
            for name, leaf in leaves.items():
                leaf.grad = -gradients[name]
            try:
                if not math.isfinite(elbo := float(value)):
                    break
                self._stepper(leaves.values())
            except LeftTheReals:
                break
            self._pair.set_buffers(buffers)
            values.append(elbo)
            if (self._taken + len(values)) % self._order.per_epoch == 0:
                self._stepper.end_epoch()
        return values

    def _noise(self, program: Program, step: int) -> Noise:
        """The noise of the steps from this one to the end of its block."""
        sizes = program.sizes
        rows = max(1, min(BLOCK, NUMBERS // max(1, sum(sizes))))
        number, start = divmod(step - 1, rows)
        if sizes not in self._blocks or self._blocks[sizes][0] != number:
            generator = rng.stream(self._seed, NOISE, *sizes, number, device=self._like.device)
            self._blocks[sizes] = number, draw_noise(sizes, rows, self._like, generator)
        normals, uniforms = self._blocks[sizes][1]
        return normals[start:], uniforms[start:]

    def _why(self, program: Program, noise: Noise, index: Tensor | None) -> Failure:
        batch = self._data.batch(self._pair.model, index)
        parameters = {name: leaf.detach() for name, leaf in self._pair.leaves.items()}
        _, value, _ = program.graph(parameters, self._pair.buffers, noise, batch.args)
        with Recorder(noise, in_place=True):
            found = culprits(self._pair, batch)
        return Failure("gradient" if torch.isfinite(value) else "ELBO", found)


def culprits(pair: Pair, batch: Batch) -> tuple[str, ...]:
    """The sites whose density is not finite for the next draw, inside the pair's scope."""
    with torch.no_grad():
        q, p = pair.run(batch)
        found = {
            site["name"]: None
            for site in sites(q) + sites(p)
            if not torch.isfinite(site["fn"].log_prob(site["value"], *site["args"], **site["kwargs"])).all()
        }
    return tuple(found)
