"""The steps of one fit at rates that change, and trials of what other steps would do, which leave no trace."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from .. import rng
from ..staging.averaged_adam import AveragedAdam
from ..staging.step import LoopState
from .eager import Eager
from .fit_run import FitRun, Row
from .minibatches import Minibatches
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
    """

    def __init__(self, fit: Any, rate: float, *, staged: bool) -> None:
        self._fit = replace(
            fit, optimizer=AveragedAdam, learning_rate=rate, progress=replace(fit.progress, optimizer=None)
        )
        self.run = FitRun(self._fit, staged=staged)
        self._seed = rng.child(fit.seed, TRIAL)
        self._twin: Staged | None = None

    @property
    def rows(self) -> list[Row]:
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
            fresh = self.trial(point.parameters, 0.0, CHUNK, number)
            point.values += fresh + [float("-inf")] * (CHUNK - len(fresh))

    def trial(self, parameters: Mapping[str, Tensor], rate: float, steps: int, number: int = 0) -> list[float]:
        """Steps from some parameters, as if nobody had taken them.

        Args:
            rate: 0 for the ELBO at one place, under the draws and minibatches that training sees.
            number: Of the random numbers.

        Returns:
            The ELBO before each, nats; fewer where one of them could not be taken.
        """
        engine, stepper, _ = self.run.stands
        setup = replace(self._fit, seed=rng.child(self._seed, number), rows=())
        minibatches = Minibatches(setup.data, setup.batch_size, setup.seed)
        with self.run.inside(), rng.seeded(setup.seed):
            if isinstance(engine, Staged) and engine.state is not None:
                twin = Staged(setup, minibatches, stepper, 0, engine)
                twin.stand(_at(engine.state, parameters, rate), 0)
                values = twin.take(steps)
                engine.finish()  # a step that could not be taken has left its traces
                return values
            return self._by_pyro(Eager(setup, minibatches, stepper, 0), stepper, parameters, rate, steps)

    def _by_pyro(
        self, engine: Eager, stepper: Any, parameters: Mapping[str, Tensor], rate: float, steps: int
    ) -> list[float]:
        leaves, buffers = self._fit.pair.leaves, {k: v.clone() for k, v in self._fit.pair.buffers.items()}
        before, state = {name: leaf.detach().clone() for name, leaf in leaves.items()}, stepper.get_state()
        try:
            for name, value in parameters.items():
                leaves[name].data = value.clone()
            for optimizer in stepper.each(leaves).values():
                optimizer.begin(rate)
            return engine.take(steps)
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
