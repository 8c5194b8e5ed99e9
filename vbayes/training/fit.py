"""Fitting a pair to data with `pyro.infer.SVI`."""

from __future__ import annotations

import copy
import functools
import itertools
import math
import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Literal, overload

import torch
from pyro.infer import ELBO

from .. import rng
from ..data.dataset import Binarize, Dataset
from ..errors import BadInput, CaptureFailed, NonFinite, checks_keywords
from ..estimators import AnalyticKL, name_of, resolve
from ..estimators.base import Estimator
from ..estimators.memory import with_memory
from ..pair.check import examine_minibatches, require_parameters
from ..pair.device import choose_device
from ..pair.pair import Pair
from ..progress import bar, between_steps
from ..validation import no_warnings_of_nan, validation, values_unchecked
from .optimizer import optimizer_for
from .result import Fit, Progress, Row
from .steps import WORTH, Eager, Failure, Order, Staged

if TYPE_CHECKING:
    from .restarts import Restarts

Callback = Callable[[Sequence[Row]], object]
BY_PYRO = "From here on it trains step by step in Pyro, which is slower."
INTERVAL = 0.1  # seconds between two looks at progress bar, callbacks and Ctrl-C


@overload
def fit(pair: Pair, data: Any, estimator: Any = ..., *, restarts: None = None, **options: Any) -> Fit: ...
@overload
def fit(pair: Pair, data: Any, estimator: Any = ..., *, restarts: int, **options: Any) -> Restarts: ...
@checks_keywords  # type: ignore[misc]  # the options stand here, in full
def fit(
    pair: Pair,
    data: Any,
    estimator: str | type[ELBO] | ELBO = "analytic_kl",
    *,
    steps: int | None = None,
    epochs: int | None = None,
    batch_size: int | None = None,
    optimizer: Any = torch.optim.Adam,
    learning_rate: float | None = None,
    seed: int = 0,
    device: str = "auto",
    compile: Literal["auto"] | bool = "auto",
    restarts: int | None = None,
    binarize: Binarize | None = None,
    callbacks: Sequence[Callback] = (),
    progress: bool = True,
) -> Fit | Restarts:
    """Maximises the ELBO by stochastic gradient ascent.

    Ctrl-C returns what there is.

    Args:
        pair: Model and guide; it is copied, never changed.
        data: A `Dataset`, a tensor or array of shape (N, ...), or a tuple or mapping of those.
        estimator: A name, a vbayes estimator, or any `pyro.infer.ELBO`. "auto" asks `vb.recommend` at the start, after a tenth and after
            half of the steps; the fit's `switches` say what it chose. Its choice depends on the clock.
        steps: Optimiser steps; or
        epochs: passes over the data. 1000 steps if neither is given.
        batch_size: M, rows in a minibatch; None takes all rows in each step.
        optimizer: A `torch.optim` class, or a `pyro.optim` object (a scheduler among them steps once an epoch).
        learning_rate: For a `torch.optim` class; None leaves its default.
        seed: Of the draws and the order of the data. Initial parameters belong to the pair.
        device: "cpu", "cuda", "cuda:1"; "auto" takes CUDA where there is one.
        compile: Turn pair, estimator and optimiser into one program: True, False (Pyro takes the steps, so that one can
            look on), or "auto": where the number of steps repays it. What can't be turned into one is trained by Pyro,
            after a warning that says why. The two draw different random numbers.
        restarts: R independent fits from R starts, in one loop; they come back together, as `Restarts`. The first start is the
            pair's own; see `vbayes.pair.initial_values.another_start` for the others.
        binarize: Make grey data in [0, 1] black and white, for a Bernoulli likelihood: "threshold", "static" or "dynamic", anew in each
            epoch; see `Dataset.binarized`, whose data `Fit.load` wants for such a fit.
        callbacks: Each is called some ten times a second with the new rows of the history.
        progress: Show a bar with the ELBO per datum and its trend.

    Returns:
        `Fit`, the trained copy of the pair with its history; or `Restarts`, several of them.

    Raises:
        BadInput: What was handed in does not fit; the message says what, and how to mend it.
        NonFinite: The ELBO or its gradient left the real numbers. The error's `fit` holds the history and the last
            finite parameters.

    Examples:
        >>> fit = vb.fit(pair, vb.data.digits(), epochs=50, batch_size=100, learning_rate=1e-3)
        >>> fit.plot()
    """
    automatic = estimator == "auto"
    method = AnalyticKL() if automatic else resolve(estimator)
    dataset, where = Dataset.of(data), choose_device(device)
    if binarize is not None:
        dataset = dataset.binarized(binarize, seed=seed)
    if compile not in ("auto", True, False):
        raise BadInput(f"compile={compile!r}. Wanted: 'auto', True or False.")
    if restarts is not None and (not isinstance(restarts, int) or restarts < 1):
        raise BadInput(f"restarts={restarts!r}. Wanted: an integer of at least 1, or None for a single fit.")
    dataset.check_batch_size(batch_size)
    pair = pair.copy()
    buffers = pair.snapshot_of_buffers()
    examine_minibatches(pair, dataset, batch_size)
    # Parameters are made where the caller's modules and data are; then all of it moves.
    pair, dataset = pair.load(buffers).to(where), dataset.to(where)  # a look moves running statistics
    first = dataset.batch(pair.model, None if batch_size is None else torch.arange(batch_size, device=where))
    if isinstance(method, Estimator):  # one that can't work on this pair says so now
        looked_at = pair.copy()
        with looked_at.scope(), rng.seeded(0), values_unchecked():
            method.draw(looked_at, first)
    require_parameters(pair)
    method = with_memory(method, pair)
    with rng.seeded(seed):
        start = Progress(rng.get_state())
    # A pyro.infer.ELBO remembers the plates of the first model it meets: each fit has its own.
    fresh = Fit(pair, dataset, copy.copy(method), batch_size, optimizer, learning_rate, seed, start, compile=compile)
    count = count_steps(fresh, steps, epochs)
    if automatic:
        from ..laboratory.auto import fit_automatically, refuse_restarts

        refuse_restarts(restarts)
        return fit_automatically(fresh, count, callbacks=callbacks, progress=progress)
    if restarts is None:
        return train(fresh, count, show=progress, callbacks=callbacks)
    from .restarts import fit_restarts

    return fit_restarts(fresh, restarts, count, show=progress, callbacks=callbacks)


def count_steps(fit: Fit, steps: int | None, epochs: int | None) -> int:
    """Optimiser steps in `steps` or `epochs`, of which at most one is given."""
    if steps is not None and epochs is not None:
        raise BadInput(f"Both steps={steps} and epochs={epochs} were given. Wanted: one of them.")
    wanted = steps if steps is not None else epochs if epochs is not None else 1000
    if not isinstance(wanted, int) or wanted < 0:
        raise BadInput(f"{'steps' if epochs is None else 'epochs'}={wanted!r}. Wanted: an integer of at least 0.")
    if epochs is None:
        return wanted
    return epochs * (1 if fit.batch_size is None else math.ceil(len(fit.data) / fit.batch_size))


def train(fit: Fit, steps: int, *, show: bool, callbacks: Sequence[Callback] = ()) -> Fit:
    """`steps` more steps. `fit.pair` is ours to change."""
    pair, data, state = fit.pair, fit.data, fit.progress
    generator = copy.deepcopy(state.generator)
    rows = list(fit.rows)
    staged = state.staged or fit.compile is True or (fit.compile == "auto" and steps >= WORTH)
    interrupted = False
    with (
        pair.scope(),
        rng.continued(generator),
        validation(False),  # `examine` has validated; a value that is not finite must reach the ELBO
        no_warnings_of_nan(),
        bar("fit", steps, show=show) as advance,
        between_steps() as asked_to_stop,
    ):
        order = Order(data, fit.batch_size, fit.seed)
        stepper = optimizer_for(pair.leaves, fit.optimizer, fit.learning_rate, state.optimizer)
        engine, staged = _engine(fit, order, stepper, staged=staged, steps=steps)
        before, start, pace = rows[-1][4] if rows else 0.0, time.perf_counter(), 1
        done, ended = 0, before
        try:
            while done < steps and not engine.failure and not interrupted:
                try:
                    elbos = engine.take(min(pace, steps - done))
                except CaptureFailed as error:  # the model is not what it was
                    warnings.warn(f"{error}\n{BY_PYRO}", stacklevel=3)
                    engine.finish()
                    engine, staged, pace = Eager(pair, fit.estimator, data, order, stepper, len(rows)), False, 1
                    continue
                began, ended = ended, before + time.perf_counter() - start
                taken = [
                    (step, order.epoch(step), elbo, elbo / len(data), began + (ended - began) * i / len(elbos))
                    for i, (step, elbo) in enumerate(zip(itertools.count(len(rows) + 1), elbos, strict=False), start=1)
                ]
                rows += taken
                done += len(taken)
                if engine.several:  # each call an interval, of about this length
                    pace = max(1, min(2 * pace, int(pace * INTERVAL / max(ended - began, 1e-6))))
                advance(done, functools.partial(_note, rows))
                for callback in callbacks if taken else ():
                    callback(taken)
                interrupted = asked_to_stop()
        except KeyboardInterrupt:  # a second one, or the model's or a callback's own
            interrupted = True
        engine.finish()
        optimizer_state = stepper.get_state()
    reached = replace(
        fit, rows=tuple(rows), interrupted=interrupted, progress=Progress(generator, staged, optimizer_state)
    )
    if failure := engine.failure:
        raise NonFinite(_left_the_reals(failure, reached), step=len(rows) + 1, sites=failure.sites, fit=reached)
    return reached


def _engine(fit: Fit, order: Order, stepper: Any, *, staged: bool, steps: int) -> tuple[Eager | Staged, bool]:
    """What takes the steps, and whether it is a program, or would be if there were any."""
    given = fit.pair, fit.estimator, fit.data, order, stepper, fit.steps
    if staged and steps:
        try:
            return Staged(*given, fit.seed), True
        except CaptureFailed as error:
            warnings.warn(f"{error}\n{BY_PYRO}", stacklevel=4)
    return Eager(*given), staged and not steps


def _left_the_reals(failure: Failure, fit: Fit) -> str:
    culprits = failure.sites
    where = f"site{'s' * (len(culprits) > 1)} {', '.join(map(repr, culprits))}" if culprits else "no single site"
    return (
        f"The {failure.what} of pair {fit.pair.name!r} under {name_of(fit.estimator)} is not finite at step {fit.steps + 1}; "
        f"{where} {'have' if len(culprits) > 1 else 'has'} a log-density that is not finite there. "
        "Common mends: a smaller learning_rate, a scale bounded away from 0, other initial values. "
        f"Nothing is lost: this error's `.fit` has the history of {fit.steps} steps and the last finite parameters."
    )


def _note(rows: list[Row]) -> str:
    """The ELBO per datum and its trend: the mean of the last tenth of the steps against the tenth before."""
    width = max(1, min(len(rows) // 10, 1000))
    recent = sum(row[3] for row in rows[-width:]) / width
    if len(rows) < 2 * width:
        return f"ELBO per datum {recent:.4g}"
    change = recent - sum(row[3] for row in rows[-2 * width : -width]) / width
    return f"ELBO per datum {recent:.4g} {'↑' if change > 0 else '↓'} {change:+.2g} in {width} steps"
