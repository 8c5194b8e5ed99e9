"""Steps taken by several processes, each with its share of the rows of a minibatch."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ..data.dataset import Batch
from ..errors import CaptureFailed, warn
from ..pair.watch import Watch
from ..staging import Compiled, Noise, Program, Recorder, eager, faithful, stage
from ..staging.backends import backend_of
from ..staging.capture import knowing_plates
from .block_noise import BlockNoise
from .engine import CHANGED, CHANGES, Setup, Stepper
from .engine_words import engine_of
from .failure import Failure, why
from .looks import Looks
from .minibatches import EpochLoss, Minibatches
from .non_finite_step import NonFiniteStep
from .ranks import Ranks
from .share import Share, Sharing, sharing_of

BY_PYRO = "From here on Pyro computes the gradients, which is slower."


@dataclass
class Part:
    """A process's share of a minibatch, and the gradient for it.

    Attributes:
        share: The share of the rows.
        gradient: (parameters, buffers, noise, arguments) → (gradients, value, buffers).
        still: Parameters that no gradient reaches.
        program: The program that was compiled; None if Pyro computes the gradient.
    """

    share: Share
    gradient: Callable[..., tuple[dict[str, Tensor], Tensor, dict[str, Tensor]]]
    still: set[str]
    program: Program | None = None


class ByRanks:
    """An engine. Each process computes the gradient of its share; all take the optimiser's step along the mean gradient, so that parameters stay the same everywhere.

    Minibatches and noise are those of a single compiled process, of which each process uses the part for its rows. A compiled loop takes many steps in a call, during which processes
    can't communicate, so only the gradient is compiled, and each step is one call.

    Args:
        setup, minibatches, stepper, taken: As for `Eager`; the same in all processes.
        staged: Whether to compile the gradient.
        ranks: The processes.
        like: The engine of another fit of the same pair and data, whose checks and programs are reused.

    Raises:
        BadInput: The rows can't be divided among the processes.
    """

    several = False
    failure: Failure | None = None

    def __init__(
        self,
        setup: Setup,
        minibatches: Minibatches,
        stepper: Stepper,
        taken: int,
        *,
        staged: bool,
        ranks: Ranks,
        like: ByRanks | None = None,
    ) -> None:
        self._setup, self._minibatches, self._stepper, self._taken = setup, minibatches, stepper, taken
        self._pair, self._data, self._ranks = setup.pair, setup.data, ranks
        self._like = next(iter(self._pair.leaves.values()))
        self._epoch = EpochLoss(minibatches, taken, [row[2] for row in setup.rows])
        self._noise = BlockNoise(setup.seed, self._like)
        self._sharing: Sharing = like._sharing if like else sharing_of(setup.pair, setup.estimator, setup.data)
        self._parts: dict[int, Part] = like._parts if like else {}
        self._watch = Watch(self._pair.model, self._pair.guide, settings=setup.estimator) if staged else None
        self._why = "compile=False" if setup.compile is False else "too few steps to repay compiling"
        self._looks, self._renewed = Looks(taken), 0

    def twin(self, setup: Setup, minibatches: Minibatches, like: ByRanks | None) -> ByRanks:
        """A copy for steps of the same pair with another seed, or on other data."""
        return ByRanks(
            setup, minibatches, self._stepper, 0, staged=self._watch is not None, ranks=self._ranks, like=like
        )

    @property
    def how(self) -> str:
        """A description of what computes the gradients, with the number of processes."""
        made = [part.gradient for part in self._parts.values() if isinstance(part.gradient, Compiled)]
        quick = engine_of(made) if self._watch else f"Pyro: {self._why}"
        return f"{quick}; its gradient is the mean of {self._ranks.world} processes'"

    def take(self, count: int) -> list[float]:
        """Up to `count` more steps: the ELBO of each, in nats, before it."""
        elbos: list[float] = []
        while len(elbos) < count and self.failure is None:
            elbos += self._step(self._taken + 1)
        return elbos

    def _step(self, step: int) -> list[float]:
        index, leaves = self._minibatches.index(step), self._pair.leaves
        part = self._part(len(self._data) if index is None else len(index))
        share, torchs = part.share, ""
        rows = (
            torch.arange(share.start, share.stop, device=self._like.device)
            if index is None
            else index[share.start : share.stop]
        )
        batch = self._minibatches.data(step).batch(self._pair.model, rows)
        normals, uniforms = self._noise(share, step, 1)
        noise = share.noise((normals[0], uniforms[0]))
        parameters = {name: leaf.detach() for name, leaf in leaves.items()}
        before = {name: value.clone() for name, value in self._pair.buffers.items()}
        mine = parameters, self._like.new_zeros(()), before
        try:
            mine = part.gradient(parameters, before, noise, batch.args)
        except torch.linalg.LinAlgError as error:
            mine = parameters, self._like.new_full((), math.nan), before
            torchs = str(error).split("\n")[0]
        except BaseException:  # the others are notified before this process stops
            self._mean(mine, share.weight, lost=True)
            raise
        gradients, value, buffers = self._mean(mine, share.weight)
        lost: Sequence[Tensor] = ()
        try:
            if not math.isfinite(elbo := float(value)):
                raise NonFiniteStep("ELBO")
            for name, leaf in leaves.items():
                leaf.grad = None if name in part.still else -gradients[name]
            self._stepper(leaves.values())
        except NonFiniteStep as error:
            self._pair.set_buffers(before)
            lost = error.parameters
            names = [name for name, leaf in leaves.items() if any(leaf is each for each in lost)]
            self.failure = self._found(str(error), batch, noise, names, torchs)
            return []
        self._pair.set_buffers(buffers)
        self._taken = step
        if (mean := self._epoch.after(step, elbo)) is not None:
            self._stepper.end_epoch(mean)
        return [elbo]

    def _mean(
        self, mine: tuple[Mapping[str, Tensor], Tensor, Mapping[str, Tensor]], weight: float, *, lost: bool = False
    ) -> tuple[dict[str, Tensor], Tensor, dict[str, Tensor]]:
        """The gradient, value and buffers for all rows. Buffers that are counters are the same in all processes."""
        gradients, value, buffers = mine
        # By name, because the order of parameters in Pyro changes when a guide is used a second time.
        names, floating = sorted(gradients), sorted(name for name, each in buffers.items() if each.is_floating_point())
        sent = [*(gradients[name] for name in names), value, *(buffers[name] for name in floating)]
        means = iter(self._ranks.mean(sent, weight, lost))
        joint = {name: next(means) for name in names}
        return joint, next(means), {**buffers, **{name: next(means) for name in floating}}

    def _found(self, what: str, batch: Batch, noise: Noise, names: Sequence[str], torchs: str) -> Failure:
        """Why a step could not be taken, as reported by the process that has the rows responsible."""
        knowing = knowing_plates(self._pair, self._setup.estimator, batch)
        recorded = Recorder(noise, in_place=True)
        found = why(what, self._pair, knowing, batch, parameters=names, noise=recorded, torchs=torchs)
        every = self._ranks.gather(found)
        return next((each for each in every if each.sites or each.torchs), every[0])

    # ---- the gradient of a share -----------------------------------------------------------------------------------

    def _part(self, rows: int) -> Part:
        if rows not in self._parts:
            share = self._sharing.share(rows, self._ranks.rank, self._ranks.world, self._like.device)
            still = set[str]()
            made = Part(share, eager(self._pair, copy.copy(self._setup.estimator), len(self._data), still), still)
            if self._watch is not None:
                made = self._compiled(made)
            self._parts[rows] = made
        return self._parts[rows]

    def _compiled(self, part: Part) -> Part:
        share, batch = part.share, self._example(part.share)
        try:
            program = stage(self._pair, self._setup.estimator, batch)
        except CaptureFailed as error:
            self._by_pyro(error)
            return part
        if program.guards:  # values read by the model, which may differ between shares
            self._by_pyro(
                CaptureFailed(
                    f"Pair {self._pair.name!r} reads values of its arguments{program.guards.line}, which a compiled program fixes, but they differ between the processes' shares of the rows"
                )
            )
            return part
        parameters = {name: leaf.detach() for name, leaf in self._pair.leaves.items()}
        noise = share.noise((self._like.new_zeros(share.sizes[0]), self._like.new_zeros(share.sizes[1])))
        inputs = parameters, self._pair.buffers, noise, batch.args
        gradient = Compiled(program.graph, *inputs, backend=backend_of(self._setup.compile), static=program.static)
        return Part(share, gradient, set(program.still), program)

    def _example(self, share: Share) -> Batch:
        return self._data.batch(self._pair.model, torch.arange(share.stop - share.start, device=self._like.device))

    def _by_pyro(self, why: CaptureFailed) -> None:
        warn(f"{why}\n{BY_PYRO}")
        self._watch, self._why = None, str(why)
        self._parts.clear()

    def look_again(self) -> None:
        """If the model has changed since its capture, compiles its gradient again; if it keeps changing, lets Pyro compute it."""
        if self._watch is None or not self._parts:
            return
        if self._watch.changed():
            self._renewed += 1
            self._watch.reset()
            self._parts.clear()
            if self._renewed > CHANGES:
                self._by_pyro(CaptureFailed(CHANGED.format(pair=self._pair.name, steps=self._taken)))
        elif self._looks.due(self._taken):
            part = next(iter(self._parts.values()))
            with self._looks.look(self._taken):
                assert part.program is not None
                same = faithful(self._pair, self._setup.estimator, part.program, self._example(part.share), self._taken)
            self._watch.reset()  # a model that counts its calls has counted this check
            if not same:
                self._by_pyro(CaptureFailed(CHANGED.format(pair=self._pair.name, steps=self._taken)))

    def finish(self) -> None:
        """Nothing is held back."""
