"""A window of steps at one rate, in parts, with the mean of the iterates of each part."""

from __future__ import annotations

from collections.abc import Callable

from .drift import drift, mean_of
from .phased_run import PhasedRun, Point
from .schedule_state import Midst


def window(
    now: Midst, steps: PhasedRun, size: int, parts: int, go: Callable[[int], bool]
) -> tuple[Point, int, float] | None:
    """Takes the steps of a window, or the remaining ones; returns the mean of their iterates, their number, and their drift.

    Args:
        now: State of the phase, which holds that of the window between two steps; cleared at the end.
        steps: The steps of the fit.
        size: Number of steps in a part.
        parts: Number of parts in the window.
        go: (total number of steps) → whether more may follow.

    Returns:
        None if no step was taken, or one could not be taken.
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
