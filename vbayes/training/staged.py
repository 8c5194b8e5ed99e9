"""Steps by a captured program, many in a call."""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor

from .. import rng
from ..errors import CaptureFailed
from ..pair.watch import Watch
from ..staging import Compiled, Program, faithful, stage
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

RARE = 0.05  # of the steps: too few to compile for, as those of an epoch's last, smaller minibatch often are


class Staged:
    """Steps by a captured program. The base noise of a step is a function of seed and step.

    Args:
        setup, minibatches, stepper, taken: As for `Eager`.
        like: The steps of another fit of the same pair, data and optimiser: what was captured and compiled for them serves here too.
        backend: In place of the one that the setup's `compile` names.

    Attributes:
        programs: Rows in a minibatch → what is captured for it.
        state: Where it stands; None where the optimiser itself takes the steps, because it has no pure form.
        renewed: How often other programs were made, because what model and guide read has changed.

    Raises:
        CaptureFailed: As `stage`.
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
        self._epoch = EpochLoss(minibatches, taken, [row[2] for row in setup.rows])
        self.programs: dict[int | None, Program] = {} if like is None else like.programs
        self._loops: dict[int | None, Loop] = {} if like is None else like._loops
        self._gradients: dict[int | None, Compiled] = {} if like is None else like._gradients
        self._noise = BlockNoise(setup.seed, self._like)
        self._looks, self.renewed = Looks(taken), 0
        watch = like._watch if like else Watch(self._pair.model, self._pair.guide, settings=setup.estimator)
        self._watch: Watch = watch
        program = self._program(minibatches.sizes[0])  # what can't be captured says so now
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
        while len(elbos) < count and self.failure is None:
            elbos += self._run(count - len(elbos))
        return elbos

    @property
    def _given(self) -> tuple[str, ...]:
        return self._scheduled.names if self._scheduled else ()

    @property
    def waits(self) -> bool:
        """Whether its rates hang on the losses of an epoch."""
        return bool(self._scheduled and self._scheduled.waits)

    def prepare(self) -> None:
        """Captures and compiles now what the steps will need, instead of when they need it."""
        for size in self._minibatches.sizes:
            self._program(size)
            if self.state:
                self._loop(size)

    @property
    def how(self) -> str:
        """What takes the steps; see `engine_of`."""
        made: list[Loop | Compiled] = [*self._loops.values(), *self._gradients.values()]
        quick = engine_of(made, recorded=self._like.is_cuda and self.state is not None)
        return quick if self.state is not None else f"{quick}, but for the optimiser's own step: {self._stepper.name}"

    def look_again(self) -> None:
        """Whether the model still is what it was when it was captured: what can be watched each time, the rest now and then.

        Where a number, flag or the like has changed that model, guide or estimator read, other programs are made.
        """
        if self._watch.changed():
            self._renew()
        if self._looks.due(self._taken):
            with self._looks.look(self._taken):
                self._hold_against_pyro()
            self._watch.reset()  # a model that counts its calls has counted these

    def _renew(self) -> None:
        changed = ", ".join(f"`{place.name}`" for place, _ in self._watch.what_changed()) or "A list"
        self.renewed += 1
        if self.renewed > CHANGES:
            raise CaptureFailed(KEEPS_CHANGING.format(places=changed, pair=self._pair.name))
        first = self._minibatches.sizes[0]
        still = self._program(first).still
        for made in (self.programs, self._loops, self._gradients):
            made.clear()  # type: ignore[attr-defined]
        if self._program(first).still != still:
            raise CaptureFailed(
                f"Pair {self._pair.name!r} gives gradients to other parameters since {changed} has changed, which a program does not."
            )
        self._watch.reset()

    def _hold_against_pyro(self) -> None:
        size = self._minibatches.sizes[0]
        batch = self._data.batch(self._pair.model, None if size is None else self._minibatches.ahead(1, 1)[0][0][0])  # type: ignore[index]
        if not faithful(self._pair, self._setup.estimator, self._program(size), batch, self._taken):
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
            if self._scheduled:
                self._scheduled.settle(self._taken)

    def take_over(self) -> None:
        """Goes on from what pair and optimiser hold now, for whoever has changed it."""
        if self._updates:
            steps, states = self._updates.read()
            self._updates.refresh(steps, states)
            parameters = {name: leaf.detach() for name, leaf in self._pair.leaves.items()}
            self.stand(LoopState(steps, parameters, states, self._pair.buffers), self._taken)

    def stand(self, state: LoopState, taken: int) -> None:
        """Goes on from a state, so many steps into its noise and minibatches."""
        self.state, self._taken, self.failure = state, taken, None

    def upcoming(self, count: int) -> tuple[list[Block], Tensor | None]:
        """The next steps, up to `count`, whose noise is of one block.

        Returns:
            What they need, for each size of minibatch among them; and (n,) uint8, the number of each step's size, if there are
            two.
        """
        first = self._taken + 1
        programs = [self._program(size) for size in self._minibatches.sizes[: 1 if count == 1 else None]]
        rooms = [self._minibatches.room(first)] + [self._noise.left(program, first) for program in programs]
        if self._scheduled:
            rooms.append(self._scheduled.room(first))
        count = int(min(count, *rooms))
        fresh = None if self._data.chances is None else self._minibatches.data(first).batch(self._pair.model).args
        indices, which = self._minibatches.ahead(first, count)
        given = self._scheduled.ahead(first, count).to(self._like.device) if self._scheduled else None
        blocks = []
        for number, (size, index) in enumerate(zip(self._minibatches.sizes, indices, strict=True)):
            if which is None or (mine := which == number).any():
                program = self._program(size)
                noise = self._noise(program, first, count)
                now = given
                if which is not None:
                    noise = noise[0][mine], noise[1][mine]
                    now = None if given is None else given[mine]
                blocks.append(Block(size, program, noise, index, fresh, now))
        return blocks, which if len(blocks) > 1 else None

    def _run(self, count: int) -> list[float]:
        blocks, which = self.upcoming(count)
        refused: NonFiniteStep | None = None
        if self.state is None:
            values, refused = self._one_by_one(blocks, which)
        else:
            seed = rng.child(self._setup.seed, NOISE)
            parts = [Part(self._loop(b.size), b.noise, b.index, b.columns, seed, b.given) for b in blocks]
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
        """So many more steps have been taken."""
        self._taken += steps

    def _program(self, size: int | None) -> Program:
        if size not in self.programs:
            index = None if size is None else torch.arange(size, device=self._like.device)
            made = stage(self._pair, self._setup.estimator, self._data.batch(self._pair.model, index))
            if any(made.still != other.still for other in self.programs.values()):
                raise CaptureFailed(
                    f"Pair {self._pair.name!r} gives gradients to other parameters in minibatches of another size, which a "
                    "program does not."
                )
            self.programs[size] = made
        return self.programs[size]

    def _loop(self, size: int | None) -> Loop:
        if size not in self._loops:
            self._loops[size] = self.loop(self._program(size), size)
        return self._loops[size]

    def loop(self, program: Program, size: int | None, together: int | None = None, stacked: Stacked = None) -> Loop:
        """Steps on minibatches of a size; `together` and `stacked` are `Loop`'s."""
        assert self.state and self._updates
        columns = self._data.batch(self._pair.model).args
        # Not for its number of steps, which resuming would change: resumed or not, it is the same program.
        often = self._minibatches.share(size) > RARE
        return Loop(
            program, self._updates.rules, self.state, columns, size, together=together, stacked=stacked, compiled=often, given=self._given,
            backend=self._backend, seeded=True,
        )  # fmt: skip

    def _one_by_one(self, blocks: list[Block], which: Tensor | None) -> tuple[list[float], NonFiniteStep | None]:
        """The gradient by the program, the step by the optimiser itself: the ELBOs, and why there is no next one."""
        leaves, values, taken = self._pair.leaves, list[float](), [0] * len(blocks)
        data = self._minibatches.data(self._taken + 1)
        for number in [0] * len(blocks[0].noise[0]) if which is None else which.tolist():
            each, row = blocks[number], taken[number]
            taken[number] += 1
            args = data.batch(self._pair.model, None if each.index is None else each.index[row]).args
            parameters = {name: leaf.detach() for name, leaf in leaves.items()}
            inputs = parameters, self._pair.buffers, (each.noise[0][row], each.noise[1][row]), args
            if each.size not in self._gradients:
                self._gradients[each.size] = Compiled(each.program.graph, *inputs, backend=self._backend)
            try:
                gradients, value, buffers = self._gradients[each.size](*inputs)
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
        """Why a step can't be taken from where this stands, inside the pair's scope.

        Args:
            refused: By the optimiser itself.
        """
        index = self._minibatches.index(step)
        program = self._program(None if index is None else len(index))
        normals, uniforms = self._noise(program, step, 1)
        batch = self._minibatches.data(step).batch(self._pair.model, index)
        return why_not(
            program, self._pair, self._setup.estimator, batch, (normals[0], uniforms[0]), lambda gradients: self._lost(gradients, refused)
        )  # fmt: skip

    def _lost(self, gradients: Mapping[str, Tensor], refused: NonFiniteStep | None) -> tuple[str, ...]:
        if self.state and self._updates:
            return lost(self._updates.rules, self.state, gradients)
        gone = refused.parameters if refused else []
        return tuple(name for name, leaf in self._pair.leaves.items() if any(leaf is each for each in gone))
