"""The steps of one fit at rates that change, and trials of what other steps would do, which leave no trace."""

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

TRIAL = 2  # what a child of a seed is for, beside those of `minibatches`
CHUNK = 64  # values of an ELBO that are taken together: the random numbers of the next are another seed's

Values = dict[str, Tensor]  # of the parameters, unconstrained


@dataclass(eq=False)
class Point:
    """Parameters, and the ELBO there as far as somebody wanted to know it: the same draws and minibatches at every point.

    Attributes:
        parameters: Name → unconstrained value.
        values: ELBO, nats.
    """

    parameters: Values
    values: list[float] = field(default_factory=list)


class PhasedRun:
    """A `FitRun` by `AveragedAdam`.

    Args:
        fit: What has been reached. Its pair is ours to change.
        rate: Of the first steps.
        staged: As for `FitRun`.
        held_out: Data on which `evaluate` looks, in place of the fit's; its ELBO counts for as many rows as the fit has.
        optimizer: The state of the `AveragedAdam` of one that was kept.
        between: Called after each of the looks that `evaluate` takes.
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
        self._looking: Any = None  # the engine that looks there

    @property
    def rows(self) -> History:
        """The history."""
        return self.run.rows

    @property
    def parameters(self) -> Values:
        """Where it stands; a copy."""
        return {name: value.detach().clone() for name, value in self._fit.pair.parameters.items()}

    @property
    def mean(self) -> Values:
        """The mean of the iterates since `begin`; what no gradient reaches is where it is."""
        _, stepper, _ = self.run.stands
        with self._fit.pair.scope():
            leaves = self._fit.pair.leaves
            optimizers = stepper.each(leaves)
            held = {name: optimizers[name].state.get(leaf, {}) for name, leaf in leaves.items()}
            return {name: held[name].get("mean", leaf).detach().clone() for name, leaf in leaves.items()}

    def begin(self, rate: float, parameters: Mapping[str, Tensor] | None = None) -> None:
        """Goes on at another rate, from other parameters if they are given, as if no step had been taken."""
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
        """So many more steps; see `FitRun.go`."""
        self.run.go(self.run.steps - self._fit.steps + steps, **options)

    def evaluate(self, point: Point, count: int) -> None:
        """Lets a point know at least so many values of its ELBO, if they are finite."""
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
        """How much higher the ELBO is at one point than at another, and its standard error, nats.

        Args:
            a, b: From the one to the other.
            most: Values, at most.
            fine: The standard error that is small enough.
            stop: Whether to be content with what is known.
        """
        count = CHUNK
        if self._fit.pair.state().keys() != self._fit.pair.parameters.keys():  # what buffers hold has changed since
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
        """Steps from some parameters, as if nobody had taken them.

        Args:
            rate: 0 for the ELBO at one place, under the draws and minibatches that training sees.
            number: Of the random numbers.
            data: In place of the fit's.

        Returns:
            The ELBO before each, nats; fewer where one of them could not be taken.
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
                engine.finish()  # a step that could not be taken has left its traces
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
    """A state before its first step, elsewhere and with another rate."""
    fresh = {
        name: {k: torch.full_like(v, rate) if k == "lr" else torch.zeros_like(v) for k, v in each.items()}
        for name, each in state.optimizer.items()
    }
    return replace(state, steps=torch.zeros_like(state.steps), parameters=dict(parameters), optimizer=fresh)
