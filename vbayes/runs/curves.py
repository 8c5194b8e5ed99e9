"""Curves of several runs in one plot, as numbers for the page's template, so that the plot has the page's colours, light or dark."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

WIDTH, HEIGHT = 720, 320
LEFT, RIGHT, TOP, BOTTOM = 64, 12, 10, 40
POINTS = 300  # maximum number of points in a line: more than one for every two pixels is invisible
TICKS = 5
LOW = 0.05  # fraction of the values below the visible range, as the first steps start far away
BELOW = 9  # maximum distance of an invisible point below the frame, in frame heights


def curves(runs: Mapping[str, Sequence[tuple[float, float]]]) -> dict[str, Any] | None:
    """The plot; None if no run has two points.

    Args:
        runs: Name → (x, y), in the order of x. For long runs, running means over a fiftieth of the points are shown.
    """
    lines = {name: _smooth([(x, y) for x, y in points if math.isfinite(y)]) for name, points in runs.items()}
    lines = {name: points for name, points in lines.items() if len(points) > 1}
    if not lines:
        return None
    values = sorted(y for points in lines.values() for _, y in points)
    low, high = values[int(LOW * (len(values) - 1))], values[-1]
    room = 0.05 * (high - low) or 0.5
    low, high = low - room, high + room
    end = max(points[-1][0] for points in lines.values())

    def place(x: float, y: float) -> tuple[float, float]:
        across = LEFT + (WIDTH - LEFT - RIGHT) * x / (end or 1.0)
        return across, TOP + (HEIGHT - TOP - BOTTOM) * min((high - y) / (high - low), 1.0 + BELOW)

    return {
        "width": WIDTH,
        "height": HEIGHT,
        "frame": (LEFT, TOP, WIDTH - RIGHT, HEIGHT - BOTTOM),
        "lines": {
            name: " ".join(f"{x:.1f},{y:.1f}" for x, y in (place(*point) for point in points))
            for name, points in lines.items()
        },
        "across": [(round(place(x, high)[0], 1), f"{x:,.0f}") for x in ticks(0, end)],
        "up": [(round(place(0, y)[1], 1), f"{y:g}".replace("-", "−")) for y in ticks(low, high)],
    }


def ticks(low: float, high: float) -> list[float]:
    """About five round numbers in an interval: multiples of 1, 2 or 5 times a power of ten."""
    rough = (high - low) / TICKS or 1.0
    if not math.isfinite(rough):
        return []
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(power * factor for factor in (1, 2, 5, 10) if power * factor >= rough)
    first = math.ceil(low / step)
    return [float(f"{step * number:.10g}") for number in range(first, math.floor(high / step) + 1)]


def _smooth(points: list[tuple[float, float]]) -> list[tuple[float, float]]:
    """Running means over a fiftieth of the points, at some of them."""
    half = len(points) // 100
    sums = [0.0]
    for _, y in points:
        sums.append(sums[-1] + y)
    places = range(0, len(points), max(1, -(-len(points) // POINTS)))
    return [(points[i][0], _mean(sums, max(0, i - half), min(len(points), i + half + 1))) for i in places]


def _mean(sums: list[float], start: int, stop: int) -> float:
    return (sums[stop] - sums[start]) / (stop - start)
