"""Training with Adam for a given number of steps, with the mean of the iterates in the second half."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import replace
from typing import Any, TypeVar

import torch

from ..errors import BadInput
from ..guides import in_words
from ..progress import bar, between_steps
from .callbacks import Callback, Callbacks
from .convergence import of_history
from .engine import repays, spared
from .fit_run import not_finite
from .history import Row, trend
from .phased_run import PhasedRun
from .plateau import FEWEST
from .tolerance import Tolerance
from .updating import bound_of

F = TypeVar("F", bound=Any)  # a `Fit`
RATE = 1e-3  # Adam's own


def train_averaged(fit: F, steps: int, *, show: bool, callbacks: Sequence[Callback] = ()) -> F:
    """Trains a fit, whose pair is modified in place, for `steps` more steps at a constant rate; its parameters become the mean of the iterates in the second half.

    Args:
        fit: A fit with Adam.
        steps: Number of steps, at least two.
        show, callbacks: As for `train`.

    Raises:
        BadInput: Another optimiser, or fewer than two steps.
        NonFinite: A step failed. The error's `fit` has the fit so far.

    References:
        Polyak & Juditsky 1992, Acceleration of stochastic approximation by averaging, doi:10.1137/0330046; Izmailov et al. 2018, Averaging weights leads to wider optima,
        arXiv:1803.05407, for networks.
    """
    if fit.optimizer is not torch.optim.Adam:
        name = getattr(fit.optimizer, "__name__", type(fit.optimizer).__name__)
        raise BadInput(f"optimizer={name} with average=True. Wanted: torch.optim.Adam, whose iterates are averaged.")
    if steps < 2:
        raise BadInput(
            f"average=True over {steps} step{'s' * (steps != 1)}. Wanted: at least two; the second half is averaged."
        )
    rate = fit.learning_rate or RATE
    staged = fit.progress.staged or repays(fit.compile, steps)
    backend = spared(fit.compile, fit.steps + steps)
    halves = (steps // 2, steps - steps // 2)

    def as_kept(reached: F) -> F:
        """Means of iterates are no state of an Adam's."""
        progress = replace(reached.progress, optimizer=None)
        return replace(reached, optimizer=fit.optimizer, learning_rate=fit.learning_rate, progress=progress)  # type: ignore[no-any-return]

    with (
        bar(in_words(fit.pair.guide) or "fit", halves[0], show=show, unit="step") as advance,
        nullcontext(PhasedRun(fit, rate, staged=staged, backend=backend)) as run,
        between_steps() as asked_to_stop,
    ):
        before = fit.steps
        run.begin(rate)

        told = Callbacks(callbacks, asked_to_stop, as_kept)

        def report(rows: Sequence[Row]) -> None:
            advance(run.run.steps - before, functools.partial(trend, run.rows, bound_of(fit)))

        for number, part in enumerate(halves):
            if not (run.run.failure or run.run.interrupted):
                if number:
                    advance.phase("averaging", part, "step")
                    before = run.run.steps
                run.begin_mean()
                run.go(part, report=report, asked_to_stop=asked_to_stop, callbacks=told)
    reached = run.run.fit
    interrupted = run.run.interrupted
    if not run.run.failure and not interrupted:
        run.begin(rate, run.mean)
    reached = told.handed_back(as_kept(reached))
    if failure := run.run.failure:
        raise not_finite(failure, reached)
    if reached.steps >= FEWEST:
        limit = Tolerance.of(reached)
        reached = replace(reached, convergence=of_history(reached.rows.elbo, limit.nats, limit.rows))
    return reached
