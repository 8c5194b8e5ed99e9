"""Steps by a captured program, many per call."""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor

from .. import rng
from ..data.dataset import Batch
from ..errors import CaptureFailed
from ..pair.watch import Watch
from ..staging import Compiled, Program, faithful
from ..staging.backends import backend_of
from ..staging.loop import Loop, Part, Stacked, run_loops
from ..staging.optimizers import Updates
from ..staging.step import LoopState
from .block_noise import Block, BlockNoise
from .engine import CHANGED, CHANGES, KEEPS_CHANGING, Setup, Stepper
from .engine_words import engine_of
from .failure import Failure, lost, why_not
from .looks import Looks
from .minibatches import NOISE, EpochLoss, Minibatches
from .non_finite_step import NonFiniteStep
from .programs import Kind, Programs

RARE = 0.05  # fraction of the steps below which a program is not compiled, such as that of an epoch's last, smaller minibatch


class Staged:
    """Steps by a captured program. The base noise of a step is a function of seed and step.

    Args:
        setup, minibatches, stepper, taken: As for `Eager`.
        like: The engine of another fit of the same pair, data and optimiser, whose programs are reused.
        backend: Used instead of the one in the setup's `compile`.

    Attributes:
        programs: The programs for the minibatches.
        state: The current state; None if the optimiser itself takes the steps, because it has no pure form.
        refused: Why no program is valid for the next steps; None if one is.
        renewed: How often the programs were replaced, because values that model and guide read have changed.

    Raises:
        CaptureFailed: As for `stage`.
    """

    several = True
    failure: Failure | None = None

    def __init__(
        self, setup: Setup, minibatches: Minibatches, stepper: Stepper, taken: int, like: Staged | None = None,
        backend: str | None = None,
    ) -> None:  # fmt: skip
        self._setup, self._minibatches, self._stepper, self._taken = setup, minibatches, stepper, taken
        self._pair, self._data, self._backend = setup.pair, setup.data, backend or backend_of(setup.compile)
        leaves = self._pair.leaves
        self._like = next(iter(leaves.values()))
        self._epoch = EpochLoss(minibatches, taken, setup.rows.elbo)
        self._noise = BlockNoise(setup.seed, self._like)
        programs = Programs(self._pair, setup.estimator, self._data, self._noise.rows)
        self.programs: Programs = programs if like is None else like.programs
        self._loops: dict[Kind, Loop] = {} if like is None else like._loops
        self._gradients: dict[Kind, Compiled] = {} if like is None else like._gradients
        self.refused: CaptureFailed | None = None
        self._looks, self.renewed = Looks(taken), 0
        watch = like._watch if like else Watch(self._pair.model, self._pair.guide, settings=setup.estimator)
        self._watch: Watch = watch
        program = self.programs.of(minibatches.sizes[0])  # so that a failure to capture is reported now
        optimizers = stepper.each(leaves)
        self._scheduled = stepper.scheduled(leaves, minibatches.per_epoch, taken)
        self._updates = Updates.of(optimizers, leaves, program.still, self._given)
        self.state: LoopState | None = None
        if self._updates:
            parameters = {name: leaf.detach() for name, leaf in leaves.items()}
            steps, states = self._updates.read()
            self.state = LoopState(steps, parameters, states, self._pair.buffers)
        if like is None:
            watch.reset()

    def take(self, count: int) -> list[float]:
        """Up to `count` more steps: the ELBO of each, in nats, before it."""
        elbos: list[float] = []
        try:
            while len(elbos) < count and self.failure is None:
                elbos += self._run(count - len(elbos))
        except CaptureFailed as error:  # for other values of its arguments; `look_again` reports it
            self.refused = error
        return elbos

    @property
    def _given(self) -> tuple[str, ...]:
        return self._scheduled.names if self._scheduled else ()

    @property
    def waits(self) -> bool:
        """Whether its rates depend on the losses of an epoch."""
        return bool(self._scheduled and self._scheduled.waits)

    def prepare(self) -> None:
        """Captures and compiles now what the steps will need, instead of when they need it."""
        for size in self._minibatches.sizes:
            self.programs.of(size)
            if self.state:
                self._loop((size, 0))

    @property
    def how(self) -> str:
        """What takes the steps; see `engine_of`."""
        made: list[Loop | Compiled] = [*self._loops.values(), *self._gradients.values()]
        quick = engine_of(made)
        return quick if self.state is not None else f"{quick}, but for the optimiser's own step: {self._stepper.name}"

    def look_again(self) -> None:
        """Checks whether the model is the same as when it was captured: watched places each time, everything else occasionally.

        If a number, flag or similar value that model, guide or estimator read has changed, the programs are replaced.
        """
        if self.refused:
            raise self.refused
        if self._watch.changed():
            self._renew()
        if self._looks.due(self._taken):
            with self._looks.look(self._taken):
                self._hold_against_pyro()
            self._watch.reset()  # a model that counts its calls has counted these checks

    def _renew(self) -> None:
        changed = ", ".join(f"`{place.name}`" for place, _ in self._watch.what_changed()) or "A list"
        self.renewed += 1
        if self.renewed > CHANGES:
            raise CaptureFailed(KEEPS_CHANGING.format(places=changed, pair=self._pair.name))
        self._loops.clear()
        self._gradients.clear()
        self.programs.renew(self._minibatches.sizes[0], changed)
        self._watch.reset()

    def _hold_against_pyro(self) -> None:
        program, batch = self._at(self._taken + 1)
        if not faithful(self._pair, self._setup.estimator, program, batch, self._taken):
            raise CaptureFailed(CHANGED.format(pair=self._pair.name, steps=self._taken))

    def _sorted(self, first: int, count: int) -> list[tuple[Kind, Tensor, Tensor | None]]:
        return self.programs.sort(
            self._minibatches, first, count, lambda program: self._noise.rows(program, first, count)
        )

    def _at(self, step: int) -> tuple[Program, Batch]:
        """The loop that takes a step, and its inputs."""
        ((kind, _, index),) = self._sorted(step, 1)
        batch = self._minibatches.data(step).batch(self._pair.model, None if index is None else index[0])
        return self.programs.made[kind], batch

    def finish(self) -> None:
        """Writes the current state to the pair's parameters and buffers and to the optimiser."""
        if self.state and self._updates:
            leaves = self._pair.leaves
            with torch.no_grad():
                for name, value in self.state.parameters.items():
                    leaves[name].data = value.clone()
            self._pair.set_buffers(self.state.buffers)
            self._updates.write(int(self.state.steps), self.state.optimizer)
            if self._scheduled:
                self._scheduled.settle(self._taken)

    def take_over(self) -> None:
        """Continues from the current state of pair and optimiser, after others have changed it."""
        if self._updates:
            steps, states = self._updates.read()
            self._updates.refresh(steps, states)
            parameters = {name: leaf.detach() for name, leaf in self._pair.leaves.items()}
            self.stand(LoopState(steps, parameters, states, self._pair.buffers), self._taken)

    def stand(self, state: LoopState, taken: int) -> None:
        """Continues from a state, at the given position in noise and minibatches."""
        self.state, self._taken, self.failure = state, taken, None

    def upcoming(self, count: int) -> tuple[list[Block], Tensor | None]:
        """The next steps, up to `count`, within one block of noise.

        Returns:
            Their inputs, for each kind of minibatch among them; and (n,) uint8, the number of each step's kind, if there are several.
        """
        first, made = self._taken + 1, self.programs.made
        data, rooms = self._minibatches.data(first), [count, self._minibatches.room(first)]
        rooms += [self._scheduled.room(first)] if self._scheduled else []
        rooms += [self._noise.left(program, first) for program in made.values()]
        while True:
            count = int(min(rooms))
            groups = self._sorted(first, count)
            rooms = [
                self._noise.left(made[kind], first) for kind, _, _ in groups
            ]  # a new program may just have been made
            if count <= min(rooms):
                break
        fresh = None if data is self._data else data.batch(self._pair.model).args
        given = self._scheduled.ahead(first, count).to(self._like.device) if self._scheduled else None
        blocks, which = [], torch.zeros(count, dtype=torch.uint8, device="cpu")
        for number, (kind, at, index) in enumerate(groups):
            which[at] = number
            noise, now = self._noise(made[kind], first, count), given
            if len(groups) > 1:
                noise = noise[0][at], noise[1][at]
                now = None if given is None else given[at]
            blocks.append(Block(kind, made[kind], noise, index, fresh, now))
        return blocks, which if len(blocks) > 1 else None

    def _run(self, count: int) -> list[float]:
        blocks, which = self.upcoming(count)
        refused: NonFiniteStep | None = None
        if self.state is None:
            values, refused = self._one_by_one(blocks, which)
        else:
            seed = rng.child(self._setup.seed, NOISE)
            parts = [Part(self._loop(b.kind), b.noise, b.index, b.columns, seed, b.given) for b in blocks]
            self.state, reported = run_loops(self.state, parts, which)
            values = reported.tolist()
            if self.waits:
                self._end_epochs(values)
        self.advance(len(values))
        if len(values) < (len(blocks[0].noise[0]) if which is None else len(which)):
            self.finish()
            self.failure = self.why(self._taken + 1, refused)
        return values

    def _end_epochs(self, values: list[float]) -> None:
        for step, elbo in enumerate(values, start=self._taken + 1):
            if (mean := self._epoch.after(step, elbo)) is not None:
                self._stepper.end_epoch(mean)

    def advance(self, steps: int) -> None:
        """Records that more steps have been taken."""
        self._taken += steps

    def _loop(self, kind: Kind) -> Loop:
        if kind not in self._loops:
            self._loops[kind] = self.loop(self.programs.of(*kind), kind[0])
        return self._loops[kind]

    def loop(self, program: Program, size: int | None, together: int | None = None, stacked: Stacked = None) -> Loop:
        """Steps on minibatches of a size; `together` and `stacked` are `Loop`'s."""
        assert self.state and self._updates
        columns = self._minibatches.data(self._taken + 1).batch(self._pair.model).args
        # Independent of the number of steps, so that a resumed fit uses the same program.
        often = self._minibatches.share(size) > RARE
        return Loop(
            program.unguarded, self._updates.rules, self.state, columns, size, together=together, stacked=stacked, compiled=often, given=self._given,
            backend=self._backend, seeded=True,
        )  # fmt: skip

    def _one_by_one(self, blocks: list[Block], which: Tensor | None) -> tuple[list[float], NonFiniteStep | None]:
        """Takes steps with the gradient from the program and the optimiser's own step; returns the ELBOs, and why there is no next step."""
        leaves, values, taken = self._pair.leaves, list[float](), [0] * len(blocks)
        data = self._minibatches.data(self._taken + 1)
        for number in [0] * len(blocks[0].noise[0]) if which is None else which.tolist():
            each, row = blocks[number], taken[number]
            taken[number] += 1
            args = data.batch(self._pair.model, None if each.index is None else each.index[row]).args
            parameters = {name: leaf.detach() for name, leaf in leaves.items()}
            inputs = parameters, self._pair.buffers, (each.noise[0][row], each.noise[1][row]), args
            if each.kind not in self._gradients:
                program, backend = each.program, self._backend
                self._gradients[each.kind] = Compiled(program.graph, *inputs, backend=backend, static=program.static)
            try:
                gradients, value, buffers = self._gradients[each.kind](*inputs)
                for name, leaf in leaves.items():
                    if name not in each.program.still:
                        leaf.grad = -gradients[name]
                if not math.isfinite(elbo := float(value)):
                    break
                self._stepper(leaves.values())
            except torch.linalg.LinAlgError:
                break
            except NonFiniteStep as error:
                return values, error
            self._pair.set_buffers(buffers)
            values.append(elbo)
            if (mean := self._epoch.after(self._taken + len(values), elbo)) is not None:
                self._stepper.end_epoch(mean)
        return values, None

    def why(self, step: int, refused: NonFiniteStep | None = None) -> Failure:
        """Finds out why a step can't be taken from the current state, inside the pair's scope.

        Args:
            refused: The step that the optimiser itself rejected.
        """
        program, batch = self._at(step)
        normals, uniforms = self._noise(program, step, 1)
        return why_not(
            program, self._pair, self._setup.estimator, batch, (normals[0], uniforms[0]), lambda gradients: self._lost(gradients, refused)
        )  # fmt: skip

    def _lost(self, gradients: Mapping[str, Tensor], refused: NonFiniteStep | None) -> tuple[str, ...]:
        if self.state and self._updates:
            return lost(self._updates.rules, self.state, gradients)
        gone = refused.parameters if refused else []
        return tuple(name for name, leaf in self._pair.leaves.items() if any(leaf is each for each in gone))
