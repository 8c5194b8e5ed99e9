"""The phases of a training that is not told how far to go."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from ..data.dataset import Dataset
from ..summaries.card import counted, rounded
from .budget import Budget
from .convergence import Convergence, Phase, in_nats
from .drift import drift, mean_of
from .fit_run import Callback, Row, not_finite
from .phased_run import CHUNK, PhasedRun, Point
from .rate import FIRST, find_rate
from .tolerance import Tolerance

WINDOW = 400  # steps of the first window, at least, and at least an epoch
GROWTH = 1.5  # from one window to the next
PARTS = 8  # of a window, by whose means it is seen to drift
STATIONARY = 1.5  # of `drift`: the mean of many squares that are about 1 is seldom above 2
LOWER = 4.0  # the factor between the rates of two phases
PHASES = 8  # at most: by then the first rate has been divided by 16 000
VALUES = 4096  # of an ELBO, at most, for a difference of two
SHARE = 4.0  # of what wandering costs, a window that gains less than one part is worth less than a lower rate
RETREATS = 5  # from parameters that left the reals, after which that is an error


class Schedule:
    """The phases of one training, as `until_converged` describes them.

    Args:
        fit: What has been reached. Its pair is ours to change.
        budget, tolerance, validation, rate, callbacks: See there.
        advance: Told of each step, and of what to show.
        asked_to_stop: Whether somebody has pressed Ctrl-C.
    """

    def __init__(
        self,
        fit: Any,
        budget: Budget,
        tolerance: Tolerance,
        validation: Dataset | None,
        rate: float | None,
        callbacks: Sequence[Callback],
        advance: Callable[[int, Callable[[], str]], None],
        asked_to_stop: Callable[[], bool],
    ) -> None:
        self._began = time.perf_counter()
        self._fit, self._tolerance, self._rate = fit, tolerance, rate or math.nan
        self._budget = budget
        self._callbacks, self._advance, self._asked_to_stop = callbacks, advance, asked_to_stop
        self._steps = PhasedRun(fit, rate or FIRST, staged=fit.compile is not False, held_out=validation)
        self._held_out = validation is not None
        self._phases: list[Phase] = []
        self._retreats, self._interrupted = 0, False
        # What is known of the last window: its mean, its gain on the window before, and the steps between the two.
        self._size, self._gain, self._gain_se, self._span = 0, math.nan, math.nan, 1.0
        self._expected, self._creeps = math.nan, 0.0
        self._ended = False  # the phase, by itself: of one that was cut short nobody knows what it would have gained

    @property
    def _taken(self) -> int:
        return self._steps.run.steps - self._fit.steps

    @property
    def _seconds(self) -> float:
        return time.perf_counter() - self._began

    @property
    def _over(self) -> bool:
        self._interrupted = self._interrupted or self._steps.run.interrupted or self._asked_to_stop()
        return self._interrupted or self._taken >= self._budget.steps or self._seconds >= self._budget.seconds

    def run(self) -> Any:
        """The fit that was reached."""
        best: Point | None = None
        converged = False
        try:
            self._begin()
            while not (converged or self._over) and len(self._phases) < PHASES:
                reached, last = self._phase(best)
                if reached is None or last is None:
                    break
                converged, best = self._judged(best, last), reached
                if not (converged or self._over):
                    self._rate /= LOWER
                    self._steps.begin(self._rate, best.parameters)
            self._settle(best)
        except KeyboardInterrupt:  # a second one; what was reached stands in the pair
            self._interrupted = True
        fit = self._steps.run.fit
        return replace(
            fit,
            optimizer=self._fit.optimizer,
            learning_rate=self._fit.learning_rate if math.isnan(self._rate) else self._rate,
            progress=replace(fit.progress, optimizer=None),  # means of iterates are no state of an Adam's
            interrupted=self._interrupted,
            convergence=self._told(converged),
        )

    def _begin(self) -> None:
        """The first rate and window."""
        self._size = max(WINDOW, self._steps.run.stands[2].per_epoch)
        if math.isnan(self._rate):
            here = self._steps.parameters
            self._rate = find_rate(lambda rate, steps: [] if self._over else self._steps.trial(here, rate, steps))
        self._steps.begin(self._rate)

    def _phase(self, before: Point | None) -> tuple[Point | None, Point | None]:
        """Windows at one rate until they gain no more: the best mean of one or of before, and the last; None where there was no time for any."""
        first, last, best, calm, self._ended = self._taken, before, before, 0, False
        while not self._over:
            window = self._window()
            if window is None:
                continue
            point, steps, drifting = window
            if last is None or best is None:
                last = best = point
                self._grow()
                continue
            self._span = steps if last is before else (steps + self._size / GROWTH) / 2
            self._gain, self._gain_se = self._difference(last, point)
            heat = self._heat(point, steps)
            best = point if self._beats(point, best) else best
            last = point
            calm += self._gain < max(self._tolerance.nats, 2 * self._gain_se)
            cool = self._gain < max(heat / SHARE, self._tolerance.worth) and (
                self._tolerance.network or drifting < STATIONARY
            )
            if calm >= 2 or cool or self._gain < -heat / SHARE or (calm and drifting < STATIONARY):
                self._ended = not self._over
                break
            self._grow()
        if last is None or last is before:
            return best, None
        if not self._phases:
            self._creeps = self._gain
        self._steps.evaluate(last, CHUNK)
        self._phases.append(Phase(self._rate, self._taken - first, float(np.mean(last.values))))
        return best, last

    def _grow(self) -> None:
        self._size = int(self._size * GROWTH)

    def _beats(self, a: Point, b: Point) -> bool:
        gain, error = self._difference(b, a)
        return gain >= -2 * error

    def _heat(self, point: Point, steps: int) -> float:
        """How much higher the ELBO is at the mean of a window's iterates than at these, nats: what their wandering costs at this rate."""
        if self._held_out:  # what is seen in training and what is not are two things
            return 0.0
        self._steps.evaluate(point, CHUNK)
        return max(0.0, float(np.mean(point.values)) - float(np.mean([row[2] for row in self._steps.rows[-steps:]])))

    def _window(self) -> tuple[Point, int, float] | None:
        """Some steps: the mean of their iterates, how many, and how much they drift; None after a retreat."""
        start, parts, counts = self._steps.parameters, [], []
        for _ in range(PARTS):
            taken = self._taken
            self._steps.begin_mean()
            self._steps.go(
                min(math.ceil(self._size / PARTS), self._budget.steps - taken),
                until=self._steps.run.seconds + max(self._budget.seconds - self._seconds, 0.0),
                report=self._report,
                asked_to_stop=self._asked_to_stop,
            )
            if self._steps.run.failure:
                self._retreat(start)
                return None
            if self._taken > taken:
                parts.append(self._steps.mean)
                counts.append(self._taken - taken)
            if self._over:
                break
        if not parts:
            return None
        return Point(mean_of(parts, counts)), sum(counts), drift(parts)

    def _retreat(self, start: Any) -> None:
        """Back to where the window began, at a smaller rate."""
        failure, self._retreats = self._steps.run.failure, self._retreats + 1
        assert failure
        if not self._taken or self._retreats > RETREATS or self._over:  # where no step can be taken, no smaller one can
            fit = self._steps.run.fit
            progress = replace(fit.progress, optimizer=None)
            raise not_finite(failure, replace(fit, optimizer=self._fit.optimizer, progress=progress))
        self._rate /= LOWER
        self._steps.begin(self._rate, start)

    def _report(self, rows: Sequence[Row]) -> None:
        self._advance(self._taken, lambda: f"ELBO per datum {rows[-1][3]:.4g} at rate {self._rate:.2g}")
        for callback in self._callbacks:
            callback(rows)

    def _difference(self, a: Point, b: Point) -> tuple[float, float]:
        """How much higher the ELBO is at one point than at another, and its standard error, nats."""
        most = max(CHUNK, min(VALUES, self._size // 4))
        count = CHUNK
        if self._fit.pair.state().keys() != self._fit.pair.parameters.keys():  # what buffers hold has changed since
            a.values.clear()
            b.values.clear()
        while True:
            self._steps.evaluate(a, count)
            self._steps.evaluate(b, count)
            each = np.array(b.values[:count]) - np.array(a.values[:count])
            if not np.isfinite(each).all():
                return (-math.inf if not np.isfinite(b.values).all() else math.inf), 0.0
            error = float(each.std(ddof=1)) / math.sqrt(count)
            if error < self._tolerance.nats / 4 or 2 * count > most or self._asked_to_stop():
                return float(each.mean()), error
            count *= 2

    def _judged(self, before: Point | None, reached: Point) -> bool:
        """Whether a further phase would gain nothing, by what the last one has gained."""
        if before is None:
            return False
        gain, error = self._difference(before, reached)
        self._phases[-1] = replace(self._phases[-1], gain=gain, gain_se=error)
        self._expected = max(gain, 0.0) / LOWER + 2 * error
        return self._ended and self._steady and self._expected < self._tolerance.nats

    @property
    def _steady(self) -> bool:
        """Whether the last window has gained nothing, as far as one can tell."""
        return self._gain < self._tolerance.nats + 2 * self._gain_se

    def _settle(self, mean: Point | None) -> None:
        """The pair takes on the mean, if that is as good as where it stands."""
        if mean is None or self._interrupted or self._fit.average is False:
            return
        gain, error = self._difference(Point(self._steps.parameters), mean)
        if gain >= -2 * error:
            self._steps.begin(self._rate, mean.parameters)

    @property
    def _creeping(self) -> bool:
        """Whether the first rate would go on gaining, by what it gained at its end and by what the last one does at its own pace."""
        return min(self._creeps, self._gain * self._phases[0].rate / self._rate) > self._tolerance.nats

    def _told(self, converged: bool) -> Convergence:
        rows = self._tolerance.rows
        after = f"after {counted(self._taken, 'step')} in {rounded(self._seconds, 2)} s"
        where = " on the data held out" if self._held_out else ""
        bound = (
            f"a further phase would gain less than {in_nats(max(self._expected, self._tolerance.nats), rows)}{where}"
        )
        verdict: bool | None = converged
        if self._interrupted:
            verdict, reason = None, f"stopped by Ctrl-C {after}"
        elif converged and self._tolerance.network and not self._held_out and self._creeping:
            verdict = None
            reason = f"settled {after}: {bound}; the first rate still gained {in_nats(self._creeps, rows)} a window"
        elif converged:
            reason = f"converged {after}: {bound}"
        elif not self._over and self._steady:
            verdict, reason = None, f"lost in noise {after}: {bound}"
        else:
            used = "max_steps" if self._taken >= self._budget.steps else "max_seconds" if self._over else "small rates"
            reason = f"not converged {after}: {used} used up"
            if self._gain > 2 * self._gain_se:
                reason += f", still gaining about {in_nats(1000 * self._gain / self._span, rows)} in 1,000 steps"
        return Convergence(verdict, reason, tuple(self._phases), self._expected, self._tolerance.nats)
