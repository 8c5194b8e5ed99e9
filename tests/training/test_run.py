"""The one driver: it takes the steps that were asked for, in calls that keep pace, and hears Ctrl-C, failures and changed models."""

from __future__ import annotations

import math
import warnings

import pytest

import vbayes as vb
from vbayes.training.engine import Failure
from vbayes.training.run import Run


class Counting:
    """An engine whose steps report their number; nothing else happens."""

    failure: Failure | None = None

    def __init__(self, several: bool = True, last: float = math.inf, changes: float = math.inf, begun: int = 0) -> None:
        self.several, self.last, self.changes = several, last, changes
        self.taken, self.calls, self.finished = begun, [], 0

    def take(self, count):
        assert count >= 1
        here = [step for step in range(self.taken + 1, self.taken + count + 1) if step <= self.last]
        self.taken += len(here)
        self.calls.append(count)
        if len(here) < count:
            self.failure = Failure("ELBO", ())
        return here

    def look_again(self):
        if self.taken >= self.changes:
            raise vb.errors.CaptureFailed("changed")

    def finish(self):
        self.finished += 1


def reported(run, steps, **options):
    seen, clock = [], []

    def report(values, began, ended):
        assert 0 <= began < ended
        clock.append((began, ended))
        seen.extend(values)

    run.go(steps, report=report, **options)
    assert all(a[1] == b[0] for a, b in zip(clock, clock[1:], strict=False))  # looks and callbacks are not on the clock
    return seen


@pytest.mark.parametrize("steps", [0, 1, 7, 1000])
def test_each_step_is_taken_and_reported_once(steps):
    engine = Counting()
    assert reported(Run(engine), steps) == list(range(1, steps + 1))
    assert engine.finished == 1 and sum(engine.calls) == steps


def test_calls_grow_where_that_pays_and_only_there():
    quick, slow = Counting(), Counting(several=False)
    reported(Run(quick), 1000)
    reported(Run(slow), 10)
    assert quick.calls[:4] == [1, 2, 4, 8] and slow.calls == [1] * 10


def test_it_goes_on_where_it_was():
    run = Run(Counting())
    assert reported(run, 3) + reported(run, 5) == [1, 2, 3, 4, 5] and run.taken == 5


def test_a_second_on_the_clock_is_an_end_too():
    run = Run(Counting())
    run.go(10**9, until=1e-9)
    assert run.taken == 1  # the first step tells how long steps take


def test_a_step_that_can_not_be_taken_is_the_end():
    run = Run(Counting(last=5))
    assert reported(run, 100) == [1, 2, 3, 4, 5]
    assert run.engine.failure and not run.interrupted and run.engine.finished == 1
    run.go(100)
    assert run.taken == 5


def test_ctrl_c_ends_it_after_a_call():
    pressed = iter([False, False, True])
    run = Run(Counting())
    assert reported(run, 100, asked_to_stop=lambda: next(pressed)) == [1, 2, 3, 4, 5, 6, 7]
    assert run.interrupted and run.engine.finished == 1


def test_a_keyboard_interrupt_inside_keeps_what_there_is():
    def report(values, began, ended):
        if len(values) > 1:
            raise KeyboardInterrupt

    run = Run(Counting())
    run.go(100, report=report)
    assert run.interrupted and run.taken == 3 and run.engine.finished == 1


def test_a_changed_model_goes_on_with_another_engine_after_one_warning():
    first = Counting(changes=3)
    second = Counting(several=False, begun=3)
    run = Run(first, lambda: second)
    with pytest.warns(UserWarning, match="changed\nFrom here on Pyro takes the steps one by one"):
        assert reported(run, 6) == [1, 2, 3, 4, 5, 6]
    assert run.engine is second and first.finished == 1 and second.calls == [1, 1, 1]


def test_without_another_engine_a_changed_model_is_an_error():
    run = Run(Counting(changes=1))
    with warnings.catch_warnings(), pytest.raises(vb.errors.CaptureFailed, match="changed"):
        run.go(6)
    assert run.taken == 1 and run.engine.finished == 1
