"""The phases of training until convergence."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from ..data.dataset import Dataset
from ..progress import Bar, Stop
from .autosave import Autosave
from .budget import Budget
from .callbacks import Callback, Callbacks
from .convergence import Phase
from .fit_run import not_finite
from .history import Row, trend
from .phased_run import CHUNK, PhasedRun, Point
from .ranks import Ranks
from .rate import FIRST, find_rate
from .schedule_end import ending
from .schedule_state import Midst, stand, standing
from .tolerance import Tolerance
from .updating import bound_of
from .window import window

WINDOW = 400  # minimum number of steps in the first window, which is also at least an epoch
GROWTH = 1.5  # growth factor from one window to the next
PARTS = 8  # parts of a window, whose means show whether it drifts
STATIONARY = 1.5  # threshold for `drift`: a mean of many squares of about 1 is seldom above 2
LOWER = 4.0  # the factor between the rates of two phases
PHASES = 8  # maximum number of phases: by then the first rate has been divided by 16 000
VALUES = 4096  # maximum number of values of an ELBO for a difference of two
SHARE = 4.0  # a window that gains less than this fraction of the cost of the iterates' noise is worth less than a lower rate
RETREATS = 5  # retreats from NaN or infinite parameters, after which they are an error


class Schedule:
    """The phases of one training, as `until_converged` describes them.

    Args:
        fit: The fit to continue; its pair is modified in place.
        budget, tolerance, validation, rate, callbacks: See there.
        advance: Shows the phases.
        asked_to_stop: Tells whether to stop.
        autosave: Saves the fit while it runs.
        at: State of a saved schedule to continue from; empty for a new one.
        ranks: The processes that train together, which agree on the time.
        what: Label for the progress bars.
    """

    def __init__(
        self,
        fit: Any,
        budget: Budget,
        tolerance: Tolerance,
        validation: Dataset | None,
        rate: float | None,
        callbacks: Sequence[Callback],
        advance: Bar,
        asked_to_stop: Stop,
        autosave: Autosave | None = None,
        at: dict[str, Any] | None = None,
        ranks: Ranks | None = None,
        what: str = "fit",
    ) -> None:
        self._clock = ranks.clock if ranks else time.perf_counter
        self._fit, self._tolerance, self._rate = fit, tolerance, rate or math.nan
        self._began, self._autosave, self._first, self._budget = self._clock(), autosave, fit.steps, budget
        self._advance, self._asked_to_stop, self._what = advance, asked_to_stop, what
        self._callbacks = Callbacks(callbacks, asked_to_stop, self._as_kept)
        optimizer = at["optimizer"] if at else None
        how: dict[str, Any] = {"held_out": validation, "optimizer": optimizer, "between": self._keep, "ranks": ranks}
        self._steps = PhasedRun(fit, rate or FIRST, staged=fit.compile is not False, **how)
        self._held_out, self._retreats, self._interrupted = validation is not None, 0, False
        self._phases: list[Phase] = []
        # The last window: its mean, its gain over the previous window, and the steps between the two.
        self._size, self._gain, self._gain_se, self._span = 0, math.nan, math.nan, 1.0
        self._expected, self._creeps = math.nan, 0.0
        # Progress: the rate was found, a phase is in progress, training has converged, and only settling is left.
        self._begun, self._ended, self._converged, self._closing, self._kept = False, False, False, False, False
        self._midst: Midst | None = None
        # "reached": the best point of the finished phases; "here": the final point
        self._points: dict[str, Point] = {}
        self._trials: dict[float, list[float]] = {}
        if at:
            stand(self, at)

    @property
    def _taken(self) -> int:
        return self._steps.run.steps - self._first

    @property
    def _seconds(self) -> float:
        return self._clock() - self._began

    @property
    def _over(self) -> bool:
        self._interrupted = self._interrupted or self._steps.run.interrupted or self._asked_to_stop()
        return self._interrupted or self._taken >= self._budget.steps or self._seconds >= self._budget.seconds

    def run(self) -> Any:
        """The fit so far."""
        try:
            if not self._begun:
                self._begin()
            while self._midst or not (self._closing or self._converged or self._over or len(self._phases) == PHASES):
                before = self._points.get("reached")
                reached, last = self._phase(before)
                if reached is None or last is None:
                    break
                self._converged = self._judged(before, last)
                if not (self._converged or self._over):
                    self._rate /= LOWER
                    self._steps.begin(self._rate, reached.parameters)
                self._points["reached"], self._midst = reached, None
            self._closing = True
            self._settle(self._points.get("reached"))
        except KeyboardInterrupt:  # a second Ctrl-C; the pair has the parameters so far
            self._interrupted = True
        reached = replace(
            self._as_kept(self._steps.run.fit),
            learning_rate=self._fit.learning_rate if math.isnan(self._rate) else self._rate,
            interrupted=self._interrupted,
            convergence=ending(self),
        )
        return self._callbacks.handed_back(reached)

    def _begin(self) -> None:
        """The first rate and window."""
        self._size = max(WINDOW, self._steps.run.stands[2].per_epoch)
        if math.isnan(self._rate):
            self._rate = find_rate(self._trial)
        self._steps.begin(self._rate)
        self._begun = True

    def _trial(self, rate: float, steps: int) -> list[float]:
        self._keep()
        if not self._over and rate not in self._trials:
            self._trials[rate] = self._steps.trial(self._steps.parameters, rate, steps)
            self._advance(len(self._trials), lambda: f"rate {rate:.2g}")
        return [] if self._over else self._trials[rate]

    def _phase(self, before: Point | None) -> tuple[Point | None, Point | None]:
        """Runs windows at one rate until they gain no more. Returns the best mean so far, including earlier phases, and the last one; None if there was no time for a window."""
        if self._midst is None:
            self._midst, self._ended = Midst(self._taken, before, before), False
        now = self._midst
        number = len(self._phases) + (not now.told)
        self._advance.phase(f"{self._what}, phase {number}, rate {self._rate:.2g}", None, "step")
        while not now.ended and (now.under_way or not self._over):
            now.seen = now.seen or self._window(now)
            if now.seen is None:
                continue
            point, steps, drifting = now.seen
            if now.last is None or now.best is None:
                now.last = now.best = point
                now.seen = None
                self._size = int(self._size * GROWTH)
                continue
            self._span = steps if now.last is before else (steps + self._size / GROWTH) / 2
            self._gain, self._gain_se = self._difference(now.last, point)
            heat = self._heat(point, steps)
            best = point if self._beats(point, now.best) else now.best
            calm = now.calm + (self._gain < max(self._tolerance.nats, 2 * self._gain_se))
            cool = self._gain < max(heat / SHARE, self._tolerance.worth) and (
                self._tolerance.network or drifting < STATIONARY
            )
            now.best, now.last, now.calm, now.seen = best, point, calm, None
            if calm >= 2 or cool or self._gain < -heat / SHARE or (calm and drifting < STATIONARY):
                self._ended, now.ended = not self._over, True
                break
            self._size = int(self._size * GROWTH)
        if now.last is None or now.last is before:
            return now.best, None
        self._steps.evaluate(now.last, CHUNK)
        if not now.told:
            if not self._phases:
                self._creeps = self._gain
            now.told = True
            self._phases.append(Phase(self._rate, self._taken - now.first, float(np.mean(now.last.values))))
        return now.best, now.last

    def _beats(self, a: Point, b: Point) -> bool:
        gain, error = self._difference(b, a)
        return gain >= -2 * error

    def _heat(self, point: Point, steps: int) -> float:
        """How much higher the ELBO is at the mean of a window's iterates than at the iterates, in nats: the cost of their noise at this rate."""
        if self._held_out:  # values on training data and on held-out data are not comparable
            return 0.0
        self._steps.evaluate(point, CHUNK)
        return max(0.0, float(np.mean(point.values)) - float(self._steps.rows[-steps:].elbo.mean()))

    def _window(self, now: Midst) -> tuple[Point, int, float] | None:
        """Runs a window. Returns the mean of its iterates, their number, and their drift; None after a retreat, or if there was no time for a step."""
        start = now.start = now.start or self._steps.parameters
        seen = window(now, self._steps, math.ceil(self._size / PARTS), PARTS, self._go)
        if self._steps.run.failure:
            self._retreat(start)
        return seen

    def _go(self, steps: int) -> bool:
        """Trains to a total number of steps, or as far as the budget allows; returns whether training may continue."""
        run, autosave, steps = self._steps.run, self._autosave, min(steps, self._budget.steps + self._first)
        while run.steps < steps:
            self._steps.go(
                steps - run.steps,
                report=self._report,
                asked_to_stop=self._asked_to_stop,
                callbacks=self._callbacks,
                pause=lambda: self._seconds >= self._budget.seconds or bool(autosave and autosave.due(run.steps)),
            )
            if run.failure:
                return False
            self._keep()
            if self._over:
                break
        return not self._over

    def _retreat(self, start: Any) -> None:
        """Goes back to the start of the window, with a smaller rate."""
        failure, self._retreats = self._steps.run.failure, self._retreats + 1
        assert failure
        # If not even a first step is possible, a smaller rate does not help; and an error raised by a callback must not be lost.
        if not self._callbacks.error and (not self._taken or self._retreats > RETREATS or self._over):
            fit = self._steps.run.fit
            progress = replace(fit.progress, optimizer=None)
            raise not_finite(failure, replace(fit, optimizer=self._fit.optimizer, progress=progress))
        self._rate /= LOWER
        self._steps.begin(self._rate, start)

    def _report(self, rows: Sequence[Row]) -> None:
        first = self._midst.first if self._midst else 0
        self._advance(self._taken - first, lambda: trend(self._steps.rows, bound_of(self._fit)))

    def _difference(self, a: Point, b: Point) -> tuple[float, float]:
        """How much higher the ELBO is at one point than at another, and its standard error, in nats."""
        return self._steps.difference(
            a, b, most=max(CHUNK, min(VALUES, self._size // 4)), fine=self._tolerance.nats / 4, stop=self._asked_to_stop
        )

    def _judged(self, before: Point | None, reached: Point) -> bool:
        """Whether a further phase would gain nothing, judging by the gain of the last one."""
        if before is None:
            return False
        gain, error = self._difference(before, reached)
        self._phases[-1] = replace(self._phases[-1], gain=gain, gain_se=error)
        self._expected = max(gain, 0.0) / LOWER + 2 * error
        return self._ended and self._steady and self._expected < self._tolerance.nats

    def _keep(self) -> None:
        """Saves the state if it is time to, or if training stops; never in the middle of a change."""
        run = self._steps.run
        if self._autosave is None or run.torn or self._kept:
            return
        stop = run.interrupted or self._asked_to_stop()
        if stop or self._autosave.due(run.steps):
            self._kept = stop
            self._autosave.keep(replace(self._as_kept(run.fit), interrupted=stop), schedule=standing(self))

    def _as_kept(self, fit: Any) -> Any:
        """The fit with the optimiser and rate that it was given, as means of iterates are not part of Adam's state."""
        progress = replace(fit.progress, optimizer=None)
        return replace(fit, optimizer=self._fit.optimizer, learning_rate=self._fit.learning_rate, progress=progress)

    @property
    def _steady(self) -> bool:
        """Whether the last window has gained nothing, up to noise."""
        return self._gain < self._tolerance.nats + 2 * self._gain_se

    def _settle(self, mean: Point | None) -> None:
        """Sets the pair to the mean of the iterates, if that is as good as its current point."""
        if mean is None or self._interrupted or self._fit.average is False:
            return
        here = self._points.setdefault("here", Point(self._steps.parameters))
        gain, error = self._difference(here, mean)
        if gain >= -2 * error:
            self._steps.begin(self._rate, mean.parameters)

    @property
    def _creeping(self) -> bool:
        """Whether the first rate would still gain, judging by its gain at its end and by that of the last rate, allowing for its slower pace."""
        return min(self._creeps, self._gain * self._phases[0].rate / self._rate) > self._tolerance.nats
