"""Fits of one pair from several starts: in parallel in one loop for a given number of steps, or one after the other until convergence."""

from __future__ import annotations

import functools
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch.linalg import LinAlgError

from .. import rng
from ..data.dataset import Dataset
from ..errors import CaptureFailed, NonFinite, warn
from ..estimators.remembering import with_memory
from ..pair.initial_values import another_start
from ..progress import bar, between_steps
from ..validation import no_warnings_of_nan, validation
from .budget import Budget
from .callbacks import OF_CALLBACK, Callback, Callbacks, with_fit
from .engine import repays, spared
from .every import Every
from .fit_run import Progress, not_finite, rows_of
from .history import Growing
from .minibatches import Minibatches
from .optimizer import optimizer_for
from .restarts import Restarts
from .result import Fit
from .run import BY_PYRO, Run
from .side_by_side import SideBySide
from .staged import Staged
from .train import train
from .training_state import TrainingState
from .until_converged import until_converged
from .updating import bound_of, optimizer_of, scores_alone


def fit_restarts(first: Fit, count: int, steps: int, *, show: bool, callbacks: Sequence[Callback]) -> Restarts:
    """`count` fits like `first`, which has taken no steps yet."""
    fits, alike = _starts(first, count)
    return replace(fit_each(fits, steps, show=show, callbacks=callbacks), alike=alike)


def fit_until_converged(
    first: Fit, count: int, *, max_seconds: float | None, validation: Dataset | None = None, **options: Any
) -> Restarts:
    """Trains `count` fits like `first`, which has taken no steps yet, one after the other until convergence: they end at different steps, and their rates differ.

    Args:
        max_seconds: Time limit for all of them; each gets an equal share of what is left.
        options: Options of `until_converged`.
    """
    left, callbacks = Budget.of(None, max_seconds).seconds, options.pop("callbacks", ())
    reached, failures = list[Fit](), list[NonFinite | None]()
    fits, alike = _starts(first, count)
    for number, fit in enumerate(fits):
        began, seconds = time.perf_counter(), max(left, 1e-3) / (count - number)
        how: dict[str, Any] = {
            "what": _which(number, count),
            "callbacks": _of_restart(callbacks, number),
            "validation": validation,
        }
        _add(functools.partial(until_converged, fit, max_seconds=seconds, **how, **options), reached, failures, None)
        left -= time.perf_counter() - began
        if reached[-1].interrupted:
            break
    return _checked(Restarts(tuple(reached), None, tuple(failures), alike))


def _add(take: Callable[[], Fit], reached: list[Fit], failures: list[NonFinite | None], steps: int | None) -> None:
    """Trains one more fit; if one of its callbacks raises an error, the error has all fits."""
    try:
        reached.append(take())
        failures.append(None)
    except Exception as error:
        if isinstance(error, NonFinite) and not hasattr(error, OF_CALLBACK):
            assert error.fit is not None
            reached.append(error.fit)
            failures.append(error)
            return
        if isinstance(fit := getattr(error, "fit", None), Fit):
            raise with_fit(error, Restarts((*reached, fit), steps, (*failures, None))) from error.__cause__
        raise


def _of_restart(callbacks: Sequence[Callback], number: int) -> list[Callback]:
    """The callbacks, wrapped so that they get the number of the restart."""

    def told(callback: Callback, state: TrainingState) -> object:
        state.restart = number
        return callback(state)

    return [
        replace(each, callback=functools.partial(told, each.callback))
        if isinstance(each, Every)
        else functools.partial(told, each)
        for each in callbacks
    ]


def _which(number: int, count: int) -> str:
    return f"fit {number + 1} of {count}"


def _starts(first: Fit, count: int) -> tuple[list[Fit], bool]:
    """The fits, and whether all start from the same values, for example if every parameter starts at a constant."""
    batch = first.data.batch(first.pair.model)
    fits, size, where = [first], first.batch_size, first.data.first.device
    small = first.data.batch(first.pair.model, None if size is None else torch.arange(size, device=where))
    for number, seed in enumerate(rng.children(first.seed, count)[1:], 1):
        pair = another_start(first.pair, batch, seed, number)
        estimator = with_memory(first.estimator, pair, small)  # which stores this start only
        fits.append(replace(first, pair=pair, estimator=estimator, seed=seed, progress=Progress.start(seed)))
    own, *others = [fit.pair.parameters for fit in fits]
    return fits, all(torch.equal(value, other[name]) for other in others for name, value in own.items())


def fit_each(fits: list[Fit], steps: int, *, show: bool, callbacks: Sequence[Callback] = ()) -> Restarts:
    """Trains fits of one pair for a number of steps, in parallel in one program where possible.

    Args:
        fits: The fits; each may have its own data, of the same shapes.
    """
    if steps and not scores_alone(fits[0].optimizer) and repays(fits[0].compile, steps * len(fits)):
        try:
            return _together(fits, steps, show=show, callbacks=callbacks)
        except CaptureFailed:  # single fits report the reason
            pass
    return _one_after_the_other(fits, steps, show=show, callbacks=callbacks)


def _one_after_the_other(
    fits: Sequence[Fit], steps: int, *, show: bool, callbacks: Sequence[Callback], staged: bool | None = None
) -> Restarts:
    """Trains each fit for the given number of steps, if possible."""
    reached, failures = list[Fit](), list[NonFinite | None]()
    for number, fit in enumerate(fits):
        how: dict[str, Any] = {"what": _which(number, len(fits)), "callbacks": _of_restart(callbacks, number)}
        take = functools.partial(train, fit, steps - fit.steps, show=show, staged=staged, **how)
        _add(take, reached, failures, steps)
        if reached[-1].interrupted:
            break
    return _checked(Restarts(tuple(reached), steps, tuple(failures)))


def _together(fits: list[Fit], steps: int, *, show: bool, callbacks: Sequence[Callback]) -> Restarts:
    engines: list[Staged] = []
    steppers = []
    backend = spared(fits[0].compile, steps * len(fits))
    with validation(False), no_warnings_of_nan():
        for fit in fits:
            with fit.pair.scope():
                steppers.append(optimizer_for(fit.pair.leaves, optimizer_of(fit), fit.learning_rate))
                minibatches = Minibatches(fit.data, fit.batch_size, fit.seed)
                engines.append(Staged(fit, minibatches, steppers[-1], 0, engines[0] if engines else None, backend))
        columns = [fit.data.batch(fit.pair.model).args for fit in fits]
        together = SideBySide(engines, columns)
    run, rows, changed = Run(together), [Growing(fit.rows) for fit in fits], ""
    bound = bound_of(fits[0])

    def report(values: Sequence[Sequence[float]], began: float, ended: float) -> None:
        for history, elbos in zip(rows, zip(*values, strict=True), strict=True):
            made = rows_of(elbos, run.taken - len(values), began, ended, minibatches, len(fits[0].data))
            history.add(made[~np.isnan(made[:, 2])])
        best = max(history.history[-1][3] for history in rows if len(history))
        alive = sum(not math.isnan(elbo) for elbo in values[-1])
        advance(run.taken, functools.partial("best {} per datum {:.4g}, {} going on".format, bound, best, alive))

    def reach(number: int) -> Fit:
        """The current state of one of the fits."""
        fit = fits[number]
        with fit.pair.scope():
            engines[number].finish()
            progress = Progress(fit.progress.generator, not changed, steppers[number].get_state())
        return replace(
            fit, rows=rows[number].history, interrupted=run.interrupted, progress=progress, engine=together.how
        )

    def copy_of(number: int) -> Fit:
        together.finish()
        reached = reach(number)
        return replace(reached, pair=reached.pair.copy())

    with bar(f"{len(fits)} fits", steps, show=show, unit="step") as advance, between_steps() as asked_to_stop:
        told = [Callbacks(_of_restart(callbacks, number), asked_to_stop) for number in range(len(fits))]
        try:
            while not run.over(steps):
                marks = [len(history) for history in rows]
                mark = told[0].mark(run.taken, minibatches.per_epoch)
                with validation(False), no_warnings_of_nan(), fits[0].pair.scope():
                    run.go(min(steps, mark), report=report, asked_to_stop=asked_to_stop, pause=lambda: bool(callbacks))
                for number, (each, before) in enumerate(zip(told, marks, strict=True)):
                    known = rows[number].history, before, minibatches.per_epoch
                    each.tell(*known, functools.partial(copy_of, number))
                    if each.error:
                        break
                run.interrupted = run.interrupted or asked_to_stop()
        except (
            CaptureFailed,
            LinAlgError,
        ) as error:  # the model has changed, or the factorisation of one fit's matrix failed
            changed = str(error)
    together.finish()
    reached, failures = list[Fit](), list[NonFinite | None]()
    with validation(False), no_warnings_of_nan():
        for number, (fit, engine, history) in enumerate(zip(fits, engines, rows, strict=True)):
            ended = len(history) < run.taken or (run.engine.failure is not None and not changed)
            reached.append(reach(number))
            with fit.pair.scope():
                failure = engine.why(len(history) + 1) if ended else None
            failures.append(not_finite(failure, reached[-1]) if failure else None)
    for each in told:
        each.handed_back(Restarts(tuple(reached), steps, tuple(failures)))
    if changed:
        warn(f"{changed}\n{BY_PYRO}")
        return _one_after_the_other(reached, steps, show=show, callbacks=callbacks, staged=False)
    return _checked(Restarts(tuple(reached), steps, tuple(failures)))


def _checked(restarts: Restarts) -> Restarts:
    if not restarts.to_dataframe().finished.any():
        last, error = max(zip(restarts.fits, restarts.failures, strict=True), key=lambda each: each[0].steps)
        raise NonFinite(
            f"None of {len(restarts.fits)} fits of pair {last.pair.name!r} stayed finite; the last one failed after "
            f"{last.steps} steps. {error or ''}",
            step=last.steps + 1, sites=error.sites if error else (), parameters=error.parameters if error else (), fit=last,
        )  # fmt: skip
    return restarts
