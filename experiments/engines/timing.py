"""How long tasks take, in turn: what else the machine does meets all of them alike."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Took:
    """Seconds of one unit of a task.

    Attributes:
        wall: By the clock.
        processor: That this process had a processor for, all of its threads together: where others want it too, this is what counts.
    """

    wall: float
    processor: float


def in_turn(
    tasks: Mapping[str, Callable[[int], object]], rounds: int, budget: float, first: int = 100
) -> dict[str, list[Took]]:
    """Each task as many times as fit into the budget, one task after the other in each round.

    Args:
        tasks: Name → what takes so many steps.
        budget: Seconds.
        first: Steps that are not measured, past all that happens once, such as the first smaller minibatch of an epoch.
    """
    counts = {}
    for name, run in tasks.items():
        run(first)
        took, count = 0.0, 1
        while took < budget / 4:
            count *= 4 if took else 1
            run(count)  # compiled for this number, where it is
            took = _timed(run, count).processor  # by the clock, a moment without a processor would look like long steps
        counts[name] = max(1, int(count * budget / took))
        run(counts[name])
    names, taken = list(tasks), {name: [] for name in tasks}
    for turn in range(rounds):
        for name in names[turn % len(names) :] + names[: turn % len(names)]:
            whole, count = _timed(tasks[name], counts[name]), counts[name]
            taken[name].append(Took(whole.wall / count, whole.processor / count))
    return taken


def _timed(run: Callable[[int], object], count: int) -> Took:
    wall, processor = time.perf_counter(), time.process_time()
    run(count)
    return Took(time.perf_counter() - wall, time.process_time() - processor)
