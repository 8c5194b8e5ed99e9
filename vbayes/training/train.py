"""Training for a given number of steps."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from typing import Any, TypeVar

from ..guides import in_words
from ..progress import Stop, bar, between_steps
from .callbacks import Callback, Callbacks
from .convergence import of_history
from .engine import repays, spared
from .fit_run import FitRun, Make, not_finite
from .history import Row, trend
from .plateau import FEWEST
from .run import Keeper
from .tolerance import Tolerance
from .updating import bound_of

F = TypeVar("F", bound=Any)  # a `Fit`


def train(
    fit: F,
    steps: int,
    *,
    show: bool,
    callbacks: Sequence[Callback] = (),
    staged: bool | None = None,
    autosave: Keeper | None = None,
    make: Make | None = None,
    what: str | None = None,
    stopping: Callable[..., AbstractContextManager[Stop]] = between_steps,
) -> F:
    """Trains a fit, whose pair is modified in place, for `steps` more steps.

    Args:
        staged: Whether to compile it; if None, the fit and the number of steps decide.
        autosave: Saves the fit while it runs.
        make: As for `FitRun`.
        what: Label for the progress bar; as for `until_converged` if None.
        stopping: Context manager that returns a function telling whether to stop.

    Raises:
        NonFinite: A step failed. The error's `fit` has the fit so far.
    """
    if staged is None:
        staged = fit.progress.staged or repays(fit.compile, steps)
    backend = spared(fit.compile, fit.steps + steps)
    with (
        bar(what or in_words(fit.pair.guide) or "fit", steps, show=show and steps > 0, unit="step") as advance,
        nullcontext(FitRun(fit, staged=staged and steps > 0, backend=backend, make=make)) as run,
        stopping(saves=autosave is not None) as asked_to_stop,
    ):
        told = Callbacks(callbacks, asked_to_stop)
        how: dict[str, Any] = {"asked_to_stop": asked_to_stop, "callbacks": told}

        def report(rows: Sequence[Row]) -> None:
            advance(run.steps - fit.steps, functools.partial(trend, run.rows, bound_of(fit)))

        def due() -> bool:
            return autosave is not None and autosave.due(run.steps)

        run.go(steps, report=report, pause=due, **how)
        while run.steps - fit.steps < steps and not (run.failure or run.interrupted):
            if autosave:
                autosave.keep(run.fit)
            run.go(steps, report=report, pause=due, **how)
        reached = run.fit
        if staged and not steps:  # the engine would be a program if there were any steps
            reached = replace(reached, progress=replace(reached.progress, staged=True))
        if steps and reached.steps >= FEWEST and not run.failure:
            tolerance = Tolerance.of(reached)
            convergence = of_history(reached.rows.elbo, tolerance.nats, tolerance.rows)
            reached = replace(reached, convergence=convergence)
        if autosave and not run.torn:
            autosave.keep(reached, finished=not (run.failure or run.interrupted))
    told.handed_back(reached)
    if failure := run.failure:
        raise not_finite(failure, reached)
    return reached
