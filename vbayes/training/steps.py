"""Optimiser steps of a fit, taken in two ways: by Pyro, one after the other, or by one program, many in a call."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from pyro.infer import ELBO, SVI
from torch import Tensor

from .. import rng
from ..data.dataset import Batch, Dataset
from ..errors import CaptureFailed
from ..pair.pair import Pair
from ..pair.sites import sites
from ..staging import Compiled, Noise, Program, Recorder, draw_noise, faithful, stage
from ..staging.loop import Loop, LoopState, Part, run_loops
from ..staging.optimizers import Updates
from .optimizer import GuardedOptimizer, LeftTheReals, OneOptimizer

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

    Attributes:
        sizes: Rows in a minibatch, and in the smaller one at the end of an epoch if there is one; None for all.
        per_epoch: Steps.
    """

    def __init__(self, data: Dataset, batch_size: int | None, seed: int) -> None:
        self._data, self._seed, total = data, seed, len(data)
        self.sizes: tuple[int | None, ...] = (None,)
        self.per_epoch = 1
        if batch_size is not None and batch_size < total:
            self.per_epoch = math.ceil(total / batch_size)
            self.sizes = (batch_size, total % batch_size) if total % batch_size else (batch_size,)
        self._held: dict[int, Tensor] = {}
        self._drawn: tuple[int, Dataset] = 0, data

    def data(self, step: int) -> Dataset:
        """What a step sees the rows of."""
        epoch = self.epoch(step)
        if self._data.chances is not None and self._drawn[0] != epoch:
            self._drawn = epoch, self._data.in_epoch(epoch)
        return self._drawn[1]

    def room(self, step: int) -> float:
        """Steps from this one on that see the same data."""
        return math.inf if self._data.chances is None else self.per_epoch - (step - 1) % self.per_epoch

    def epoch(self, step: int) -> int:
        """The epoch, from 1, of a step, from 1."""
        return (step - 1) // self.per_epoch + 1

    def share(self, size: int | None) -> float:
        """Of all steps, how many take so many rows."""
        rest = (len(self.sizes) - 1) / self.per_epoch
        return 1 - rest if size == self.sizes[0] else rest

    def index(self, step: int) -> Tensor | None:
        """(M,) the rows of a step; None for all of them."""
        rows, which = self.ahead(step, 1)
        chosen = rows[0 if which is None else int(which[0])]
        return None if chosen is None else chosen[0]

    def ahead(self, first: int, count: int) -> tuple[list[Tensor | None], Tensor | None]:
        """The rows of `count` steps.

        Returns:
            For each of the sizes the rows of its steps, (n, size); and (count,) uint8, the number of each step's size. None
            where there is but one.
        """
        size = self.sizes[0]
        if size is None:
            return [None], None
        orders = torch.stack([self._epoch(e) for e in range(self.epoch(first), self.epoch(first + count - 1) + 1)])
        start, whole = (first - 1) % self.per_epoch, len(self._data) // size
        if len(self.sizes) == 1:
            return [orders.view(-1, size)[start : start + count]], None
        which = torch.zeros(len(orders), self.per_epoch, dtype=torch.uint8)
        which[:, -1] = 1
        which = which.flatten()[start : start + count]
        rest = int(which.sum())
        full = orders[:, : whole * size].reshape(-1, size)[start : start + count - rest]
        return [full, orders[:rest, whole * size :]], which

    def _epoch(self, epoch: int) -> Tensor:
        if epoch not in self._held:
            self._held = {e: rows for e, rows in self._held.items() if e >= epoch - 1}
            # On the CPU whatever the device, so that a seed gives the same batches everywhere.
            order = torch.randperm(len(self._data), generator=rng.stream(self._seed, ORDER, epoch))
            self._held[epoch] = order.to(self._data.first.device)
        return self._held[epoch]


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
        self._pair, self._order, self._stepper, self._taken = pair, order, stepper, taken
        model, guide = pair.scaled(len(data))
        method: Any = estimator
        # As a bare function Pyro lets us look at the loss before it steps.
        self._svi = SVI(model, guide, stepper, loss=method.loss, loss_and_grads=_finite(method.loss_and_grads))

    def take(self, count: int) -> list[float]:
        """Up to `count` more steps: the ELBO of each, in nats, before it."""
        elbos: list[float] = []
        for step in range(self._taken + 1, self._taken + count + 1):
            batch = self._order.data(step).batch(self._pair.model, self._order.index(step))
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


@dataclass(frozen=True)
class Stretch:
    """Steps on minibatches of one size.

    Attributes:
        size: M; None for all rows.
        program: Of such a minibatch.
        noise: (n, normals) and (n, uniforms).
        index: (n, M) row numbers; None for all rows.
        columns: What the rows are of, where it changes from epoch to epoch.
    """

    size: int | None
    program: Program
    noise: Noise
    index: Tensor | None
    columns: tuple[Any, ...] | None = None


class Staged:
    """Steps by a captured program. The base noise of a step is a function of seed and step.

    Args:
        pair, estimator, data, order, stepper, taken: As for `Eager`.
        seed: Of the fit.
        like: The steps of another fit of the same pair, data and optimiser: what was captured and compiled for them serves here too.

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
        like: Staged | None = None,
    ) -> None:
        self._pair, self._data, self._order, self._stepper, self._taken = pair, data, order, stepper, taken
        self._estimator, self._seed = estimator, seed
        leaves = pair.leaves
        self._like = next(iter(leaves.values()))
        self._updates = Updates.of(stepper.each(leaves), leaves)
        self.programs: dict[int | None, Program] = {} if like is None else like.programs
        self._loops: dict[int | None, Loop] = {} if like is None else like._loops
        self._gradients: dict[int | None, Compiled] = {} if like is None else like._gradients
        self._blocks: dict[tuple[int, int], tuple[int, Noise]] = {}
        self._next_look = taken + FIRST_LOOK
        self._program(order.sizes[0])  # what can't be captured says so now
        self.state: LoopState | None = None
        if self._updates:
            parameters = {name: leaf.detach() for name, leaf in leaves.items()}
            steps, states = self._updates.read()
            self.state = LoopState(steps, parameters, states, pair.buffers)

    def take(self, count: int) -> list[float]:
        """Up to `count` more steps: the ELBO of each, in nats, before it."""
        self.look_again()
        elbos: list[float] = []
        while len(elbos) < count and self.failure is None:
            elbos += self._run(count - len(elbos))
        return elbos

    def prepare(self) -> None:
        """Captures and compiles now what the steps will need, instead of when they need it."""
        for size in self._order.sizes:
            self._program(size)
            if self.state:
                self._loop(size)

    @property
    def compiled(self) -> bool:
        """Whether all that was made so far is machine code."""
        made: list[Loop | Compiled] = [*self._loops.values(), *self._gradients.values()]
        return bool(made) and all(each.native is not None for each in made)

    def look_again(self) -> None:
        """Now and then, more and more rarely: whether the model still is what it was when it was captured."""
        if self._taken < self._next_look:
            return
        self._next_look = LATER * self._taken
        size = self._order.sizes[0]
        batch = self._data.batch(self._pair.model, None if size is None else self._order.ahead(1, 1)[0][0][0])  # type: ignore[index]
        if not faithful(self._pair, self._estimator, self._program(size), batch, self._taken):
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

    def upcoming(self, count: int) -> tuple[list[Stretch], Tensor | None]:
        """The next steps, up to `count`, whose noise is of one block.

        Returns:
            What they need, for each size of minibatch among them; and (n,) uint8, the number of each step's size, if there are
            two.
        """
        first = self._taken + 1
        programs = [self._program(size) for size in self._order.sizes[: 1 if count == 1 else None]]
        count = int(min(count, self._order.room(first), *(self._left(program, first) for program in programs)))
        fresh = None if self._data.chances is None else self._order.data(first).batch(self._pair.model).args
        indices, which = self._order.ahead(first, count)
        stretches = []
        for number, (size, index) in enumerate(zip(self._order.sizes, indices, strict=True)):
            if which is None or (mine := which == number).any():
                program = self._program(size)
                noise = self._noise(program, first, count)
                if which is not None:
                    noise = noise[0][mine], noise[1][mine]
                stretches.append(Stretch(size, program, noise, index, fresh))
        return stretches, which if len(stretches) > 1 else None

    def _run(self, count: int) -> list[float]:
        stretches, which = self.upcoming(count)
        if self.state is None:
            values = self._one_by_one(stretches, which)
        else:
            parts = [Part(self._loop(each.size), each.noise, each.index, each.columns) for each in stretches]
            self.state, reported = run_loops(self.state, parts, which)
            values = reported.tolist()
        self.advance(len(values))
        if len(values) < (len(stretches[0].noise[0]) if which is None else len(which)):
            self.finish()
            self.failure = self._why(self._taken + 1)
        return values

    def advance(self, steps: int) -> None:
        """So many more steps have been taken."""
        self._taken += steps

    def _program(self, size: int | None) -> Program:
        if size not in self.programs:
            index = None if size is None else torch.arange(size, device=self._like.device)
            self.programs[size] = stage(self._pair, self._estimator, self._data.batch(self._pair.model, index))
        return self.programs[size]

    def _loop(self, size: int | None) -> Loop:
        if size not in self._loops:
            self._loops[size] = self.loop(self._program(size), size)
        return self._loops[size]

    def loop(self, program: Program, size: int | None, together: int | None = None) -> Loop:
        """Steps on minibatches of a size."""
        assert self.state and self._updates
        columns = self._data.batch(self._pair.model).args
        # Not for its number of steps, which resuming would change: resumed or not, it is the same program.
        often = self._order.share(size) > RARE
        return Loop(program, self._updates.rules, self.state, columns, size, together=together, compiled=often)

    def _one_by_one(self, stretches: list[Stretch], which: Tensor | None) -> list[float]:
        """The gradient by the program, the step by the optimiser itself."""
        leaves, values, taken = self._pair.leaves, [], [0] * len(stretches)
        data = self._order.data(self._taken + 1)
        for number in [0] * len(stretches[0].noise[0]) if which is None else which.tolist():
            each, row = stretches[number], taken[number]
            taken[number] += 1
            args = data.batch(self._pair.model, None if each.index is None else each.index[row]).args
            parameters = {name: leaf.detach() for name, leaf in leaves.items()}
            inputs = parameters, self._pair.buffers, (each.noise[0][row], each.noise[1][row]), args
            if each.size not in self._gradients:
                self._gradients[each.size] = Compiled(each.program.graph, *inputs)
            gradients, value, buffers = self._gradients[each.size](*inputs)
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

    def _left(self, program: Program, step: int) -> int:
        """Steps from this one to the end of its block of noise."""
        rows = _rows(program)
        return rows - (step - 1) % rows

    def _noise(self, program: Program, step: int, count: int) -> Noise:
        """The noise of `count` steps from this one."""
        sizes = program.sizes
        number, start = divmod(step - 1, _rows(program))
        if sizes not in self._blocks or self._blocks[sizes][0] != number:
            generator = rng.stream(self._seed, NOISE, *sizes, number, device=self._like.device)
            self._blocks[sizes] = number, draw_noise(sizes, _rows(program), self._like, generator)
        normals, uniforms = self._blocks[sizes][1]
        return normals[start : start + count], uniforms[start : start + count]

    def _why(self, step: int) -> Failure:
        index = self._order.index(step)
        program = self._program(None if index is None else len(index))
        normals, uniforms = self._noise(program, step, 1)
        batch = self._order.data(step).batch(self._pair.model, index)
        parameters = {name: leaf.detach() for name, leaf in self._pair.leaves.items()}
        _, value, _ = program.graph(parameters, self._pair.buffers, (normals[0], uniforms[0]), batch.args)
        with Recorder((normals[0], uniforms[0]), in_place=True):
            found = culprits(self._pair, batch)
        return Failure("gradient" if torch.isfinite(value) else "ELBO", found)


def _rows(program: Program) -> int:
    """Steps whose noise is drawn together."""
    return max(1, min(BLOCK, NUMBERS // max(1, sum(program.sizes))))


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
