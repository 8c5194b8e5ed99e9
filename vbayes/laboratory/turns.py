"""The order in which runs take turns, so that a busy machine affects all of them equally."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TypeVar

Goal = TypeVar("Goal")


def turns(names: list[str], seeds: Sequence[int], goals: Sequence[Goal]) -> Iterator[tuple[str, int, Goal]]:
    """Yields estimator, seed and goal: for each goal, every run takes one turn, and a different estimator is first for each seed."""
    for number, goal in enumerate(goals):
        for place, seed in enumerate(seeds):
            turn = (number + place) % len(names)
            for name in names[turn:] + names[:turn]:
                yield name, seed, goal
