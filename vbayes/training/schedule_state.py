"""The state of a schedule of phases between two steps, as plain values and tensors for a checkpoint."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from ..errors import BadInput
from .convergence import Phase
from .optimizer_state import require_state
from .phased_run import Point, Values

PLAIN = (
    "_rate", "_retreats", "_size", "_gain", "_gain_se", "_span", "_expected", "_creeps", "_ended", "_begun", "_converged", "_closing",
)  # fmt: skip
"""The attributes of a schedule that are numbers."""


def standing(schedule: Any) -> dict[str, Any]:
    """The state of a schedule, for `stand`."""
    told = {name: getattr(schedule, name) for name in PLAIN}
    kept = packed(schedule._points, schedule._phases, schedule._midst)
    own = {"first": schedule._first, "seconds": schedule._seconds, "trials": schedule._trials}
    return {"plain": told, **kept, **own, "optimizer": schedule._steps.run.fit.progress.optimizer}


def require_schedule(at: Mapping[str, Any] | None, shapes: Mapping[str, Any]) -> None:
    """Checks that the state of a schedule in a file belongs to parameters of these shapes.

    Raises:
        BadInput: It does not.
    """
    if at is None:
        return
    try:
        points, _, midst = unpacked(at, "cpu")
        if not all(type(at["plain"][name]) in (bool, int, float) for name in PLAIN):
            raise TypeError("wanted are numbers")
        if not math.isfinite(at["seconds"] + at["first"]) or not all(map(len, dict(at["trials"]).values())):
            raise TypeError("wanted are the seconds and steps before it, and trials")
        every = [point.parameters for point in points.values()]
        if midst is not None:
            own = [midst.last, midst.best, midst.seen and midst.seen[0]]
            every += [point.parameters for point in own if point] + midst.parts
            every += [] if midst.start is None else [midst.start]
        if any({name: value.shape for name, value in each.items()} != shapes for each in every):
            raise TypeError("its parameters have other names or shapes")
    except (AttributeError, LookupError, TypeError, ValueError) as error:
        raise BadInput(f"the state of its schedule is not valid: {error}") from error
    require_state(at.get("optimizer"), shapes)


def stand(schedule: Any, at: Mapping[str, Any]) -> None:
    """Lets a new schedule continue from a saved state."""
    for name in PLAIN:
        setattr(schedule, name, at["plain"][name])
    schedule._points, schedule._phases, schedule._midst = unpacked(at, schedule._fit.pair.device)
    schedule._first, schedule._trials = at["first"], dict(at["trials"])
    schedule._began -= at["seconds"]


@dataclass
class Midst:
    """A phase in progress.

    Attributes:
        first: Number of steps before it.
        last, best: The mean of its last window, and the best one so far.
        calm: Number of windows that gained nothing.
        ended: Whether it needs no further window.
        told: Whether it has been added to the list of phases.
        seen: The last window, its steps and its drift, while it is being judged.
        start: The start of the current window; None between two windows.
        number: Number of finished parts of the window.
        parts, counts: The means of the parts that had any steps, and their numbers of steps.
        began: Total number of steps before the current part; None between two parts.
    """

    first: int
    last: Point | None = None
    best: Point | None = None
    calm: int = 0
    ended: bool = False
    told: bool = False
    seen: tuple[Point, int, float] | None = None
    start: Values | None = None
    parts: list[Values] = field(default_factory=list)
    counts: list[int] = field(default_factory=list)
    number: int = 0
    began: int | None = None

    @property
    def under_way(self) -> bool:
        """Whether there is a window to finish or judge, even if the budget is used up."""
        return self.seen is not None or self.began is not None


def packed(points: Mapping[str, Point | None], phases: Iterable[Phase], midst: Midst | None) -> dict[str, Any]:
    """The points, each stored once although it may have several names; the phases; and the current phase."""
    own = {} if midst is None else {"last": midst.last, "best": midst.best, "seen": midst.seen and midst.seen[0]}
    named = {**points, **{f"midst.{name}": point for name, point in own.items()}}
    different = list({id(point): point for point in named.values() if point is not None}.values())
    places = {id(point): place for place, point in enumerate(different)}
    plain = None
    if midst is not None:
        plain = {**vars(midst), "last": None, "best": None, "seen": midst.seen and midst.seen[1:]}
    return {
        "points": [{"parameters": point.parameters, "values": point.values} for point in different],
        "names": {name: places[id(point)] for name, point in named.items() if point is not None},
        "phases": [asdict(phase) for phase in phases],
        "midst": plain,
    }


def unpacked(told: Mapping[str, Any], device: Any) -> tuple[dict[str, Point], list[Phase], Midst | None]:
    """The inverse of `packed`: points by their names, with tensors on a device."""

    def moved(values: Mapping[str, Any]) -> Values:
        return {name: value.to(device) for name, value in values.items()}

    different = [Point(moved(each["parameters"]), list(each["values"])) for each in told["points"]]
    points = {name: different[place] for name, place in told["names"].items()}
    midst = None
    if told["midst"] is not None:
        seen = told["midst"]["seen"]
        midst = Midst(**told["midst"])
        midst.last, midst.best = points.pop("midst.last", None), points.pop("midst.best", None)
        midst.seen = None if seen is None else (points.pop("midst.seen"), *seen)
        midst.start = None if midst.start is None else moved(midst.start)
        midst.parts = [moved(part) for part in midst.parts]
    return points, [Phase(**phase) for phase in told["phases"]], midst
