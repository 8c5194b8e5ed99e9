"""Several fits of one pair from several starts, side by side in one loop."""

from __future__ import annotations

import functools
import itertools
import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import pandas as pd
from torch.linalg import LinAlgError

from .. import rng
from ..errors import CaptureFailed, NonFinite
from ..export.to_arviz import to_arviz
from ..pair.initial_values import another_start
from ..progress import bar, between_steps
from ..summaries.card import Card, Displayable, counted, first_few, rounded, with_error
from ..validation import no_warnings_of_nan, validation
from .engine import WORTH
from .fit_run import Callback, Progress, Row, not_finite, rows_of, train
from .minibatches import Minibatches
from .optimizer import optimizer_for
from .result import Fit
from .run import BY_PYRO, Run
from .side_by_side import SideBySide
from .staged import Staged

if TYPE_CHECKING:
    from matplotlib.axes import Axes

TAIL = 10  # a fit's ELBO is its mean over the last of so many parts of the steps


@dataclass(frozen=True, repr=False)
class Restarts(Displayable):
    """Several fits of one pair, each from a start and with draws of its own.

    Attributes:
        fits: In the order of their starts; the first is what a single fit would have been, up to rounding. One that left the
            reals ends before the others.
        steps: That each of them was to take.
        failures: For each the error that ended it, with step and site; None for one that stayed in the reals.
    """

    fits: tuple[Fit, ...]
    steps: int
    failures: tuple[NonFinite | None, ...] = ()

    @property
    def best(self) -> Fit:
        """The fit with the highest ELBO at its end, of those that got there."""
        table = self.to_dataframe()
        return self.fits[int(table.restart[table.best].iloc[0])]

    @property
    def spread(self) -> float:
        """Standard deviation between the fits of the ELBO per datum at their ends, in nats."""
        return float(self.to_dataframe().elbo_per_datum.std())

    def to_dataframe(self) -> pd.DataFrame:
        """A row for each fit: restart (from 0), seed, steps, elbo (nats, mean of the last tenth of the steps), its standard error
        elbo_se, elbo_per_datum, finished (whether it stayed in the reals), best."""
        longest = max(fit.steps for fit in self.fits)
        rows = []
        for number, fit in enumerate(self.fits):
            tail = fit.history.elbo.tail(max(1, fit.steps // TAIL))
            elbo = float(tail.mean()) if fit.steps else float("nan")
            rows.append(
                {
                    "restart": number,
                    "seed": fit.seed,
                    "steps": fit.steps,
                    "elbo": elbo,
                    "elbo_se": float(tail.sem()) if len(tail) > 1 else float("nan"),
                    "elbo_per_datum": elbo / len(fit.data),
                    "finished": fit.steps == (longest if fit.interrupted else self.steps),
                }
            )
        table = pd.DataFrame(rows)
        winner = table.elbo.where(table.finished).idxmax() if (table.finished & table.elbo.notna()).any() else 0
        return table.assign(best=table.index == winner)

    def card(self) -> Card:
        """The best of the fits, and how far apart they end."""
        table, first = self.to_dataframe(), self.fits[0]
        best, rows = table[table.best].iloc[0], len(first.data)
        found = (
            ("fits", f"{len(self.fits)}, of which {int(table.finished.sum())} finished"),
            ("steps", counted(self.steps, "step") + " each"),
            ("best", f"restart {best.restart}: {with_error(best.elbo / rows, best.elbo_se / rows)} nats a datum"),
            ("spread", f"{rounded(self.spread, 3)} nats a datum between the fits"),
            *((f"restart {number}", _ended(error)) for number, error in enumerate(self.failures) if error),
        )
        return Card(f"Restarts: {first.pair.name} on {first.data.name}", found)

    def to_arviz(self, data: Any = None, *, draws: int = 1000, **options: Any) -> Any:
        """As `vb.to_arviz` of one fit, with a chain for each: R-hat then tells whether the starts led to one posterior."""
        return to_arviz(self.fits, data, draws=draws, **options)

    def plot(self, ax: Axes | None = None) -> Axes:
        """The ELBO per datum of each fit against steps, the best one in colour."""
        from matplotlib import pyplot

        from ..plots import restarts

        if ax is None:
            _, ax = pyplot.subplots(figsize=(8, 3.6), layout="constrained")
        return restarts([fit.history for fit in self.fits], self.fits.index(self.best), ax)


def fit_restarts(first: Fit, count: int, steps: int, *, show: bool, callbacks: Sequence[Callback]) -> Restarts:
    """`count` fits like `first`, which has taken no steps yet."""
    batch = first.data.batch(first.pair.model)
    fits = [first]
    for seed in rng.children(first.seed, count)[1:]:
        fits.append(
            replace(first, pair=another_start(first.pair, batch, seed), seed=seed, progress=Progress.start(seed))
        )
    return fit_each(fits, steps, show=show, callbacks=callbacks)


def fit_each(fits: list[Fit], steps: int, *, show: bool, callbacks: Sequence[Callback] = ()) -> Restarts:
    """Fits of one pair that have taken no steps yet take so many: side by side in one program where that can be.

    Args:
        fits: They may have data of their own, of the same shapes.
    """
    compile = fits[0].compile
    if steps and (compile is True or (compile == "auto" and steps * len(fits) >= WORTH)):
        try:
            return _together(fits, steps, show=show, callbacks=callbacks)
        except CaptureFailed:  # the fits will say why
            pass
    return _one_after_the_other(fits, steps, show=show, callbacks=callbacks)


def _one_after_the_other(
    fits: Sequence[Fit], steps: int, *, show: bool, callbacks: Sequence[Callback], staged: bool | None = None
) -> Restarts:
    """Each goes on to so many steps, if it can."""
    reached: list[Fit] = []
    failures: list[NonFinite | None] = []
    for fit in fits:
        try:
            reached.append(train(fit, steps - fit.steps, show=show, callbacks=callbacks, staged=staged))
            failures.append(None)
        except NonFinite as error:
            assert error.fit is not None
            reached.append(error.fit)
            failures.append(error)
        if reached[-1].interrupted:
            break
    return _checked(Restarts(tuple(reached), steps, tuple(failures)))


def _together(fits: list[Fit], steps: int, *, show: bool, callbacks: Sequence[Callback]) -> Restarts:
    engines: list[Staged] = []
    steppers = []
    with validation(False), no_warnings_of_nan():
        for fit in fits:
            with fit.pair.scope():
                steppers.append(optimizer_for(fit.pair.leaves, fit.optimizer, fit.learning_rate))
                minibatches = Minibatches(fit.data, fit.batch_size, fit.seed)
                engines.append(Staged(fit, minibatches, steppers[-1], 0, engines[0] if engines else None))
        columns = [fit.data.batch(fit.pair.model).args for fit in fits]
        together = SideBySide(engines, columns)
        run, rows, changed = Run(together), [list[Row]() for _ in fits], ""
        with (
            fits[0].pair.scope(),
            bar(f"{len(fits)} fits", steps, show=show) as advance,
            between_steps() as asked_to_stop,
        ):

            def report(values: Sequence[Sequence[float]], began: float, ended: float) -> None:
                each = list(zip(*values, strict=True))
                fresh = []
                for history, elbos in zip(rows, each, strict=True):
                    made = rows_of(elbos, run.taken - len(values), began, ended, minibatches, len(fits[0].data))
                    fresh.append([row for row in made if not math.isnan(row[2])])
                    history += fresh[-1]
                best = max(history[-1][3] for history in rows if history)
                alive = sum(not math.isnan(elbo) for elbo in values[-1])
                note = "best ELBO per datum {:.4g}, {} going on"
                advance(run.taken, functools.partial(note.format, best, alive))
                for callback, taken in itertools.product(callbacks, filter(None, fresh)):
                    callback(taken)

            try:
                run.go(steps, report=report, asked_to_stop=asked_to_stop)
            except (
                CaptureFailed,
                LinAlgError,
            ) as error:  # the model is not what it was, or one fit's matrix has no factor
                changed = str(error)
        reached, failures = list[Fit](), list[NonFinite | None]()
        for fit, engine, stepper, history in zip(fits, engines, steppers, rows, strict=True):
            ended = len(history) < run.taken or (run.engine.failure is not None and not changed)
            with fit.pair.scope():
                engine.finish()
                progress = Progress(fit.progress.generator, not changed, stepper.get_state())
                failure = engine.why(len(history) + 1) if ended else None
            reached.append(
                replace(fit, rows=tuple(history), interrupted=run.interrupted, progress=progress, engine=together.how)
            )
            failures.append(not_finite(failure, reached[-1]) if failure else None)
    if changed:
        warnings.warn(f"{changed}\n{BY_PYRO}", stacklevel=4)
        return _one_after_the_other(reached, steps, show=show, callbacks=callbacks, staged=False)
    return _checked(Restarts(tuple(reached), steps, tuple(failures)))


def _checked(restarts: Restarts) -> Restarts:
    if not restarts.to_dataframe().finished.any():
        last, error = max(zip(restarts.fits, restarts.failures, strict=True), key=lambda each: each[0].steps)
        raise NonFinite(
            f"None of {len(restarts.fits)} fits of pair {last.pair.name!r} stayed in the real numbers; the last one left them after "
            f"{last.steps} of {restarts.steps} steps. {error or ''}",
            step=last.steps + 1, sites=error.sites if error else (), parameters=error.parameters if error else (), fit=last,
        )  # fmt: skip
    return restarts


def _ended(error: NonFinite) -> str:
    names = error.sites or error.parameters
    where = f", {'site' if error.sites else 'parameter'} {first_few(names, 2)}" if names else ""
    return f"left the real numbers at step {error.step}{where}"
