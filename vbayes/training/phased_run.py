"""The steps of one fit at changing rates, and trial steps without side effects."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from .. import rng
from ..data.dataset import Dataset
from ..staging.averaged_adam import AveragedAdam
from ..staging.step import LoopState
from .by_ranks import ByRanks
from .eager import Eager
from .engine import Engine
from .fit_run import FitRun
from .history import History
from .minibatches import Minibatches
from .ranks import Ranks
from .staged import Staged

TRIAL = 2  # purposes of child seeds, distinct from those of `minibatches`
CHUNK = 64  # values of an ELBO that are computed together; the next ones use a different seed

Values = dict[str, Tensor]  # name of a parameter → its unconstrained value


@dataclass(eq=False)
class Point:
    """Parameters, and the values of the ELBO computed there so far, with the same draws and minibatches for all points.

    Attributes:
        parameters: Name → unconstrained value.
        values: ELBO in nats.
    """

    parameters: Values
    values: list[float] = field(default_factory=list)


class PhasedRun:
    """A `FitRun` by `AveragedAdam`.

    Args:
        fit: The fit to continue; its pair is modified in place.
        rate: Learning rate of the first steps.
        staged: As for `FitRun`.
        held_out: Data on which `evaluate` computes the ELBO, instead of those of the fit; it is rescaled to the number of rows of the fit.
        optimizer: The state of the `AveragedAdam` of a saved run.
        between: Called after each evaluation in `evaluate`.
        ranks: The processes that take the steps together.
    """

    def __init__(
        self,
        fit: Any,
        rate: float,
        *,
        staged: bool,
        backend: str | None = None,
        held_out: Dataset | None = None,
        optimizer: Any = None,
        between: Callable[[], None] = lambda: None,
        ranks: Ranks | None = None,
    ) -> None:
        progress = replace(fit.progress, optimizer=optimizer)
        self._fit = replace(fit, optimizer=AveragedAdam, learning_rate=rate, progress=progress)
        self.run = FitRun(
            self._fit,
            staged=staged,
            backend=backend,
            make=None if ranks is None else functools.partial(ByRanks, ranks=ranks),
        )
        self._seed = rng.child(fit.seed, TRIAL)
        self._held_out, self._between = held_out, between
        self._looking: Any = None  # the engine that evaluates at points

    @property
    def rows(self) -> History:
        """The history."""
        return self.run.rows

    @property
    def parameters(self) -> Values:
        """The current point; a copy."""
        return {name: value.detach().clone() for name, value in self._fit.pair.parameters.items()}

    @property
    def mean(self) -> Values:
        """The mean of the iterates since `begin`; parameters without a gradient have their current values."""
        _, stepper, _ = self.run.stands
        with self._fit.pair.scope():
            leaves = self._fit.pair.leaves
            optimizers = stepper.each(leaves)
            held = {name: optimizers[name].state.get(leaf, {}) for name, leaf in leaves.items()}
            return {name: held[name].get("mean", leaf).detach().clone() for name, leaf in leaves.items()}

    def begin(self, rate: float, parameters: Mapping[str, Tensor] | None = None) -> None:
        """Continues at another rate, from other parameters if given, with the optimiser's state reset."""
        with self._changing(parameters or {}) as optimizers:
            for optimizer in optimizers:
                optimizer.begin(rate)

    def begin_mean(self) -> None:
        """Begins another mean."""
        with self._changing({}) as optimizers:
            for optimizer in optimizers:
                optimizer.begin_mean()

    @contextmanager
    def _changing(self, parameters: Mapping[str, Tensor]) -> Iterator[list[Any]]:
        engine, stepper, _ = self.run.stands
        with self.run.inside(), torch.no_grad():
            leaves = self._fit.pair.leaves
            for name, value in parameters.items():
                leaves[name].data = value.clone()
            yield list({id(optimizer): optimizer for optimizer in stepper.each(leaves).values()}.values())
            engine.failure = None
            if isinstance(engine, Staged):
                engine.take_over()

    def go(self, steps: int, **options: Any) -> None:
        """Takes more steps; see `FitRun.go`."""
        self.run.go(self.run.steps - self._fit.steps + steps, **options)

    def evaluate(self, point: Point, count: int) -> None:
        """Computes values of the ELBO at a point until there are at least this many, if they are finite."""
        while len(point.values) < count:
            number = len(point.values) // CHUNK
            fresh = self.trial(point.parameters, 0.0, CHUNK, number, self._held_out)
            if self._held_out is not None:
                fresh = [value * len(self._fit.data) / len(self._held_out) for value in fresh]
            point.values += fresh + [float("-inf")] * (CHUNK - len(fresh))
            self._between()

    def difference(
        self, a: Point, b: Point, *, most: int, fine: float, stop: Callable[[], bool]
    ) -> tuple[float, float]:
        """How much higher the ELBO is at `b` than at `a`, and the standard error of that, in nats.

        Args:
            a, b: The points.
            most: Maximum number of values.
            fine: Standard error that is small enough.
            stop: Tells whether to stop early.
        """
        count = CHUNK
        if self._fit.pair.state().keys() != self._fit.pair.parameters.keys():  # buffers have changed since
            a.values.clear()
            b.values.clear()
        while True:
            self.evaluate(a, count)
            self.evaluate(b, count)
            each = np.array(b.values[:count]) - np.array(a.values[:count])
            if not np.isfinite(each).all():
                return (-math.inf if not np.isfinite(b.values).all() else math.inf), 0.0
            error = float(each.std(ddof=1)) / math.sqrt(count)
            if error < fine or 2 * count > most or stop():
                return float(each.mean()), error
            count *= 2

    def trial(
        self,
        parameters: Mapping[str, Tensor],
        rate: float,
        steps: int,
        number: int = 0,
        data: Dataset | None = None,
    ) -> list[float]:
        """Takes steps from some parameters, without side effects.

        Args:
            rate: Learning rate; 0 for the ELBO at one point, with draws and minibatches as in training.
            number: Number of the random stream.
            data: Data to use instead of those of the fit.

        Returns:
            The ELBO before each step in nats; fewer if a step could not be taken.
        """
        engine, stepper, _ = self.run.stands
        setup = replace(self._fit, seed=rng.child(self._seed, number), rows=History(), data=data or self._fit.data)
        minibatches = Minibatches(setup.data, setup.batch_size, setup.seed)
        with self.run.inside(), rng.seeded(setup.seed):
            if isinstance(engine, Staged) and engine.state is not None:
                if data is not None and self._looking is None:
                    self._looking = Staged(setup, minibatches, stepper, 0)
                staged = Staged(setup, minibatches, stepper, 0, engine if data is None else self._looking)
                staged.stand(_at(engine.state, parameters, rate), 0)
                values = staged.take(steps)
                engine.finish()  # to undo the effects of a step that could not be taken
                if not staged.refused:
                    return values
                return self._from(Eager(setup, minibatches, stepper, 0), stepper, parameters, rate, steps)
            if isinstance(engine, ByRanks):
                twin = engine.twin(setup, minibatches, engine if data is None else self._looking)
                self._looking = self._looking if data is None else twin
                return self._from(twin, stepper, parameters, rate, steps)
            return self._from(Eager(setup, minibatches, stepper, 0), stepper, parameters, rate, steps)

    def _from(
        self, engine: Engine, stepper: Any, parameters: Mapping[str, Tensor], rate: float, steps: int
    ) -> list[float]:
        leaves, buffers = self._fit.pair.leaves, {k: v.clone() for k, v in self._fit.pair.buffers.items()}
        before, state = {name: leaf.detach().clone() for name, leaf in leaves.items()}, stepper.get_state()
        try:
            for name, value in parameters.items():
                leaves[name].data = value.clone()
            for optimizer in stepper.each(leaves).values():
                optimizer.begin(rate)
            return list(engine.take(steps))
        finally:
            for name, value in before.items():
                leaves[name].data = value
            stepper.set_state(state)
            self._fit.pair.set_buffers(buffers)


def _at(state: LoopState, parameters: Mapping[str, Tensor], rate: float) -> LoopState:
    """A state before the first step, with other parameters and another rate."""
    fresh = {
        name: {k: torch.full_like(v, rate) if k == "lr" else torch.zeros_like(v) for k, v in each.items()}
        for name, each in state.optimizer.items()
    }
    return replace(state, steps=torch.zeros_like(state.steps), parameters=dict(parameters), optimizer=fresh)
