"""Times gradients in turns, so that a busy machine affects all of them equally."""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable, Mapping

import torch

MEDIAN_SE = 1.2533  # a median's standard error over a mean's, for normal noise: √(π/2)


FEWEST = 6  # rounds that still have quartiles


def interleaved(
    tasks: Mapping[str, Callable[[], object]],
    rounds: int = 30,
    *,
    seconds: float = 3.0,
    device: torch.device | None = None,
) -> dict[str, tuple[float, float]]:
    """Milliseconds per call of each task; in every round each task is called once, in rotating order.

    Args:
        tasks: Name → function to time.
        rounds: Number of calls of each task, after two for warming up.
        seconds: Time limit, after which no further rounds are made, if there have been at least six.
        device: The device that they run on: a card is waited for, which a call otherwise only tells what to do.

    Returns:
        Name → median and its standard error, from the interquartile range.
    """
    names = list(tasks)
    taken: dict[str, list[float]] = {name: [] for name in names}
    began = time.perf_counter()
    for turn in range(-2, rounds):
        if turn >= min(FEWEST, rounds) and time.perf_counter() - began > seconds:
            break
        for name in names[turn % len(names) :] + names[: turn % len(names)]:
            start = time.perf_counter()
            tasks[name]()
            if device is not None and device.type == "cuda":
                torch.cuda.synchronize(device)
            if turn >= 0:
                taken[name].append((time.perf_counter() - start) * 1e3)
    result = {}
    for name, times in taken.items():
        low, median, high = statistics.quantiles(times, n=4)
        result[name] = median, MEDIAN_SE * (high - low) / 1.349 / math.sqrt(len(times))
    return result
