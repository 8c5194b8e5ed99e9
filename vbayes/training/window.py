"""A window of steps at one rate, in parts, of which each has the mean of its iterates."""

from __future__ import annotations

from collections.abc import Callable

from .drift import drift, mean_of
from .phased_run import PhasedRun, Point
from .schedule_state import Midst


def window(
    now: Midst, steps: PhasedRun, size: int, parts: int, go: Callable[[int], bool]
) -> tuple[Point, int, float] | None:
    """Takes the steps, or those that are left of them: the mean of their iterates, how many, and how much they drift.

    Args:
        now: Of the phase: what is known of the window so far is kept there between two steps, and is gone in the end.
        steps: Of the fit.
        size: Steps of a part.
        parts: Of the window.
        go: (steps in all) → whether there may be more after these.

    Returns:
        None for no steps, or where one could not be taken.
    """
    going = True
    while going and now.number < parts:
        if now.began is None:
            steps.begin_mean()
            now.began = steps.run.steps
        going = go(now.began + size)
        taken, now.began = steps.run.steps - now.began, None
        if steps.run.failure:
            break
        now.number += 1
        if taken:
            now.parts.append(steps.mean)
            now.counts.append(taken)
    means, counts = now.parts, now.counts
    now.start, now.parts, now.counts, now.number = None, [], [], 0
    return None if steps.run.failure or not means else (Point(mean_of(means, counts)), sum(counts), drift(means))
