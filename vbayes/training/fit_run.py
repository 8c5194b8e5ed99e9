"""The steps of one fit, some at a time."""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from .. import rng
from ..errors import BadPair, CaptureFailed, NonFinite, warn
from ..estimators import name_of
from ..pair.density import require_density
from ..pair.explained import FAILURES
from ..validation import no_warnings_of_nan, validation
from .callbacks import Callbacks
from .eager import Eager
from .engine import Engine
from .engine_words import short
from .failure import Failure
from .history import COLUMNS, Growing, History, Numbers
from .matching import Matching
from .minibatches import Minibatches
from .optimizer import optimizer_for
from .run import BY_PYRO, Run
from .staged import Staged
from .updating import optimizer_of, own_engine

Make = Callable[..., Any]  # (fit, minibatches, optimiser, steps so far, staged=) → an engine with a `how`


@dataclass(frozen=True)
class Progress:
    """The complete state of a training run, with which resuming gives exactly the same results as not stopping."""

    generator: dict[str, Any]
    staged: bool = False
    optimizer: dict[str, Any] | None = None

    @classmethod
    def start(cls, seed: int) -> Progress:
        """The state of a run that has taken no steps."""
        with rng.seeded(seed):
            return cls(rng.get_state())


def rows_of(
    values: Sequence[float], before: int, began: float, ended: float, minibatches: Minibatches, total: int
) -> Numbers:
    """The history of some steps, (n, 5).

    Args:
        values: Their ELBO in nats.
        before: Number of steps before them.
        began, ended: Times in seconds at the start of the first and the end of the last step.
        minibatches: The minibatches of the fit.
        total: N.
    """
    table = np.empty((len(values), len(COLUMNS)))
    done = np.arange(1, len(values) + 1, dtype=np.int64)
    table[:, 0], table[:, 1] = before + done, minibatches.epoch(before + done)
    table[:, 2] = values
    table[:, 3] = table[:, 2] / total
    table[:, 4] = began + (ended - began) / max(len(values), 1) * done
    return table


class FitRun:
    """A run of a fit. Results do not depend on how the steps are divided into calls.

    Args:
        fit: The fit to continue; its pair is modified in place.
        staged: Whether to try to compile it; what can't be compiled is trained step by step by Pyro, after a warning that says why.
        prepared: Whether to capture and compile everything that the steps will need now, before the clock starts.
        like: The run of the same fit with another seed, whose programs are reused.
        backend: As for `Staged`.
        make: Makes another kind of engine, such as `ByRanks`.

    Attributes:
        setup_seconds: Time spent before the first step.
    """

    def __init__(
        self,
        fit: Any,
        *,
        staged: bool,
        prepared: bool = False,
        like: FitRun | None = None,
        backend: str | None = None,
        make: Make | None = None,
    ) -> None:
        began = time.perf_counter()
        self._fit, self._rows = fit, Growing(fit.rows)
        self._before = fit.rows[-1][4] if fit.rows else 0.0
        self._generator = copy.deepcopy(fit.progress.generator)
        self._why = "compile=False" if fit.compile is False else "too few steps to repay compiling"
        with self.inside():
            self._stepper = optimizer_for(fit.pair.leaves, optimizer_of(fit), fit.learning_rate, fit.progress.optimizer)
            self._minibatches = Minibatches(fit.data, fit.batch_size, fit.seed)
            if make is not None:
                engine: Engine | None = make(fit, self._minibatches, self._stepper, self.steps, staged=staged)
            else:
                engine = own_engine(fit, compiled=staged) or (self._staged(prepared, like, backend) if staged else None)
            self._run = Run(engine or self._eager(), self._eager)
        self.setup_seconds = time.perf_counter() - began

    @property
    def rows(self) -> History:
        """The history."""
        return self._rows.history

    @property
    def steps(self) -> int:
        """Total number of steps."""
        return len(self._rows)

    @property
    def seconds(self) -> float:
        """Time spent in this run's steps, in seconds."""
        return self._run.seconds

    @property
    def failure(self) -> Failure | None:
        """Why there is no next step."""
        return self._run.engine.failure

    @property
    def interrupted(self) -> bool:
        """Whether Ctrl-C has ended it."""
        return self._run.interrupted

    @property
    def torn(self) -> bool:
        """Whether that was in the middle of a step, so that training can't be continued from there."""
        return self._run.torn

    @property
    def staged(self) -> bool:
        """Whether its noise is a function of seed and step, as it is of all but Pyro's own steps."""
        engine = self._run.engine
        return engine.scores is not None if isinstance(engine, Matching) else not isinstance(engine, Eager)

    @property
    def stands(self) -> tuple[Engine, Any, Minibatches]:
        """The engine that takes its steps now, the optimiser, and its minibatches."""
        return self._run.engine, self._stepper, self._minibatches

    @property
    def engine(self) -> str:
        """What takes the steps: "machine code", "XLA", "captured program" or "Pyro"."""
        return short(self.how)

    @property
    def how(self) -> str:
        """As `Fit.engine`."""
        engine: Any = self._run.engine
        return f"Pyro: {self._run.why or self._why}" if isinstance(engine, Eager) else engine.how

    @property
    def pair(self) -> Any:
        """The pair as it is now."""
        return self._fit.pair

    @property
    def fit(self) -> Any:
        """The current fit, as `vb.fit` would return it."""
        with self._fit.pair.scope():
            optimizer = self._stepper.get_state()
        progress = Progress(copy.deepcopy(self._generator), self.staged, optimizer)
        return replace(
            self._fit, rows=self.rows, interrupted=self.interrupted, progress=progress, convergence=None,
            engine=self.how,
        )  # fmt: skip

    def go(
        self,
        steps: float,
        *,
        until: float = float("inf"),
        report: Callable[[History], object] = lambda rows: None,
        asked_to_stop: Callable[[], bool] = lambda: False,
        pause: Callable[[], bool] = lambda: False,
        callbacks: Callbacks | None = None,
    ) -> None:
        """Trains to a total number of steps of this run, or to a time on its clock; see `Run.go`.

        Args:
            report: Called some ten times a second with the new rows of the history.
            callbacks: Called as often, outside of `inside`, so that their draws and changes of Pyro's store don't affect the steps.
        """

        def taken(values: Sequence[float], began: float, ended: float) -> None:
            began, ended = self._before + began, self._before + ended
            rows = rows_of(values, self.steps, began, ended, self._minibatches, len(self._fit.data))
            self._rows.add(rows)
            report(History(rows))

        while True:
            told, per_epoch = self.steps, self._minibatches.per_epoch
            mark = callbacks.mark(told, per_epoch) - len(self._fit.rows) if callbacks else steps
            with self.inside():
                self._run.go(
                    min(steps, mark), until=until, report=taken, asked_to_stop=asked_to_stop, pause=lambda: bool(callbacks) or pause(), finish=not callbacks
                )  # fmt: skip
            if not callbacks:
                return
            callbacks.tell(self.rows, told, per_epoch, self._copy)
            self._run.interrupted = self._run.interrupted or asked_to_stop()
            if self._run.over(steps, until) or pause():
                break
        self._finish()

    def _copy(self) -> Any:
        """A copy of the current fit, which does not change while the run continues."""
        self._finish()
        return replace(self.fit, pair=self._fit.pair.copy())

    def _finish(self) -> None:
        with self.inside():
            self._run.engine.finish()

    def rehearse(self) -> None:
        """Takes a first step on a copy, so that everything loaded, built or recorded at the first step counts as set-up."""
        began = time.perf_counter()
        twin = replace(self._fit, pair=self._fit.pair.copy())
        FitRun(twin, staged=self.staged, prepared=True, like=self).go(1)
        self.setup_seconds += time.perf_counter() - began

    def _staged(self, prepared: bool, like: FitRun | None, backend: str | None) -> Engine | None:
        shared = like._run.engine if like and isinstance(like._run.engine, Staged) else None
        try:
            made = Staged(self._fit, self._minibatches, self._stepper, self.steps, shared, backend)
            if prepared:
                made.prepare()
            return made
        except CaptureFailed as error:
            warn(f"{error}\n{BY_PYRO}")
            self._why = str(error)
            return None

    def _eager(self) -> Eager:
        return Eager(replace(self._fit, rows=self.rows), self._minibatches, self._stepper, self.steps)

    @contextmanager
    def inside(self) -> Iterator[None]:
        """Context with Pyro's parameter store, the global generators and validation as needed by the steps."""
        # `Problem` has validated the pair; values that are not finite must reach the ELBO, where they are detected.
        with self._fit.pair.scope(), rng.continued(self._generator), validation(False), no_warnings_of_nan():
            yield


def not_finite(failure: Failure, fit: Any) -> NonFinite:
    """The error of a step that could not be taken."""
    step = fit.steps + 1
    whose = f"pair {fit.pair.name!r} under {name_of(fit.estimator)}"
    told = failure.told(whose, f"step {step}", _impossible(fit) if failure.sites else "")
    kept = f"Nothing is lost: this error's `.fit` has the history of {fit.steps} steps and the last finite parameters."
    return NonFinite(f"{told} {kept}", step=step, sites=failure.sites, parameters=failure.parameters, fit=fit)


def _impossible(fit: Any) -> str:
    """Which rows of its data have no density, whatever the latents, and how to fix that; empty if there are none."""
    if fit.data.stored:
        return ""
    try:
        require_density(fit.pair, fit.data.batch(fit.pair.model))
    except BadPair as error:
        return str(error)
    except FAILURES:  # the parameters may be such that the model does not even run
        pass
    return ""
