"""Times tasks in alternation, so that other load on the machine affects all of them alike."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch


@dataclass(frozen=True)
class Took:
    """Seconds per step of a task.

    Attributes:
        wall: Elapsed seconds.
        processor: CPU seconds of this process, summed over its threads; the better measure on a machine with other load.
    """

    wall: float
    processor: float


def in_turn(
    tasks: Mapping[str, Callable[[int], object]], rounds: int, budget: float, first: int = 100, device: str = "cpu"
) -> dict[str, list[Took]]:
    """Times each task once per round, for as many steps as fit into the budget.

    Args:
        tasks: Functions that run a given number of steps, by name.
        budget: Seconds for a task in a round.
        first: Steps of warm-up that are not measured, enough to cover what happens only once, such as the first smaller minibatch of an epoch.
        device: The device on which they run: a GPU is waited for, and elapsed time decides how many steps fit.
    """
    counts = {}
    for name, run in tasks.items():
        run(first)
        took, count = 0.0, 1
        while took < budget / 4:
            count *= 4 if took else 1
            run(count)  # NumPyro's loop compiles for each number of steps
            found = _timed(run, count, device)
            took = (
                found.processor if device == "cpu" else found.wall
            )  # elapsed time counts pauses of this process as slow steps
        counts[name] = max(1, int(count * budget / took))
        run(counts[name])
    names, taken = list(tasks), {name: [] for name in tasks}
    for turn in range(rounds):
        for name in names[turn % len(names) :] + names[: turn % len(names)]:
            whole, count = _timed(tasks[name], counts[name], device), counts[name]
            taken[name].append(Took(whole.wall / count, whole.processor / count))
    return taken


def _timed(run: Callable[[int], object], count: int, device: str) -> Took:
    wall, processor = time.perf_counter(), time.process_time()
    run(count)
    if device != "cpu":
        torch.cuda.synchronize()
    return Took(time.perf_counter() - wall, time.process_time() - processor)
