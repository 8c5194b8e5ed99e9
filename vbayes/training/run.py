"""A fit that is taken stretch by stretch: what takes its steps stays alive in between, and the clock stands still."""

from __future__ import annotations

import copy
import itertools
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace

from .. import rng
from ..errors import CaptureFailed
from ..pair.pair import Pair
from ..validation import no_warnings_of_nan, validation
from .fit import BY_PYRO, INTERVAL
from .optimizer import optimizer_for
from .result import Fit, Progress, Row
from .steps import Eager, Failure, Order, Staged


class Stretches:
    """The steps of a fit, some at a time. The numbers are those of `vb.fit`, however the steps are divided.

    `Fit.resume` captures and compiles anew each time; here that happens once, before the clock starts.

    Args:
        fit: One without steps. Its pair is ours to change.
        staged: Try to make a program of it.
        like: The stretches of the same fit with another seed, whose programs serve here too.

    Attributes:
        seconds: On the clock so far: of steps alone.
        setup_seconds: What was paid before the first step.
        failure: Set when there is no next step.
    """

    def __init__(self, fit: Fit, *, staged: bool, like: Stretches | None = None) -> None:
        assert not fit.steps
        began = time.perf_counter()
        self._fit, self._rows = fit, list[Row]()
        self._generator = copy.deepcopy(fit.progress.generator)
        self._pace = 0.0  # steps a second, of late
        self.seconds = 0.0
        with self._inside():
            self._stepper = optimizer_for(fit.pair.leaves, fit.optimizer, fit.learning_rate)
            self._order = Order(fit.data, fit.batch_size, fit.seed)
            self._engine = self._made(staged, like)
        self.setup_seconds = time.perf_counter() - began

    @property
    def steps(self) -> int:
        """Taken so far."""
        return len(self._rows)

    @property
    def failure(self) -> Failure | None:
        return self._engine.failure

    @property
    def reached(self) -> Pair:
        """The pair as it is now."""
        return self._fit.pair

    @property
    def engine(self) -> str:
        """What takes the steps: "machine code", "captured program" or "Pyro"."""
        if isinstance(self._engine, Eager):
            return "Pyro"
        return "machine code" if self._engine.compiled else "captured program"

    @property
    def fit(self) -> Fit:
        """What has been reached, as `vb.fit` would hand it back."""
        with self._fit.pair.scope():
            optimizer = self._stepper.get_state()
        progress = Progress(copy.deepcopy(self._generator), isinstance(self._engine, Staged), optimizer)
        return replace(self._fit, rows=tuple(self._rows), progress=progress)

    def run(self, *, to_step: float, to_second: float, asked_to_stop: Callable[[], bool]) -> None:
        """Goes on to a step or a second on the clock, whichever comes first; no further than it can.

        Args:
            asked_to_stop: Looked at some ten times a second.
        """
        with self._inside():
            while self.steps < to_step and self.seconds < to_second and not self.failure and not asked_to_stop():
                room = min(INTERVAL, to_second - self.seconds)
                self._take(max(1, int(min(to_step - self.steps, room * self._pace))))
            self._engine.finish()

    def rehearse(self) -> None:
        """Takes a first step on a copy, for what is loaded, built or recorded only then; it counts as set-up."""
        began = time.perf_counter()
        twin = replace(self._fit, pair=self._fit.pair.copy())
        staged = isinstance(self._engine, Staged)
        Stretches(twin, staged=staged, like=self).run(to_step=1, to_second=float("inf"), asked_to_stop=lambda: False)
        self.setup_seconds += time.perf_counter() - began

    def _take(self, count: int) -> None:
        try:
            if isinstance(self._engine, Staged):
                self._engine.look_again()  # here, so that it is not on the clock
            start = time.perf_counter()
            elbos = self._engine.take(count)
        except CaptureFailed as error:  # the model is not what it was
            warnings.warn(f"{error}\n{BY_PYRO}", stacklevel=4)
            self._engine.finish()
            self._engine = self._eager()
            return
        took = time.perf_counter() - start
        for i, (step, elbo) in enumerate(zip(itertools.count(self.steps + 1), elbos, strict=False), start=1):
            seconds = self.seconds + took * i / len(elbos)
            self._rows.append((step, self._order.epoch(step), elbo, elbo / len(self._fit.data), seconds))
        self.seconds += took
        self._pace = len(elbos) / took

    def _made(self, staged: bool, like: Stretches | None) -> Eager | Staged:
        if staged:
            fit = self._fit
            shared = like._engine if like and isinstance(like._engine, Staged) else None
            try:
                made = Staged(
                    fit.pair, fit.estimator, fit.data, self._order, self._stepper, 0, fit.seed, shared
                )  # fmt: skip
                made.prepare()
                return made
            except CaptureFailed as error:
                warnings.warn(f"{error}\n{BY_PYRO}", stacklevel=5)
        return self._eager()

    def _eager(self) -> Eager:
        return Eager(self._fit.pair, self._fit.estimator, self._fit.data, self._order, self._stepper, self.steps)

    @contextmanager
    def _inside(self) -> Iterator[None]:
        with self._fit.pair.scope(), rng.continued(self._generator), validation(False), no_warnings_of_nan():
            yield
