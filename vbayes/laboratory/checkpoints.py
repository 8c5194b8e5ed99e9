"""Points of training at which gradients are measured."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from .. import rng
from ..errors import BadInput
from ..pair.pair import Pair
from ..pair.problem import Problem
from ..training.result import Fit

Checkpoint = Fit | Pair | Mapping[str, Tensor]
"""Where gradients are measured: a fit, a pair, or parameter values as in `Fit.parameters`."""

PLACES = ("start", "middle", "end")
NAMED = r"trajectory|start|middle|end|step \d+"
TRAJECTORY = 7  # points along a training, ends included


def given_checkpoints(at: Any, **training: Any) -> dict[str, Checkpoint]:
    """Name → checkpoint, for checkpoints given explicitly.

    Args:
        at: A mapping, or a sequence of fits, which are named by their steps.
        training: Name → training option, which would have no effect unless it is None.

    Raises:
        BadInput: `at` is something else, or a training option is given.
    """
    idle = [name for name, value in training.items() if value is not None]
    if idle:
        raise BadInput(
            f"at=... was given, so nothing is trained and {', '.join(idle)} would have no effect. Leave it out."
        )
    if isinstance(at, Sequence) and not isinstance(at, str) and all(isinstance(one, Fit) for one in at):
        named: dict[str, Checkpoint] = {f"step {fit.steps}": fit for fit in at}
        if len(named) < len(at):
            raise BadInput(
                f"at=... has {len(at)} fits, but only {len(named)} different numbers of steps to name them by. Name them in a mapping."
            )
    else:
        named = dict(at) if isinstance(at, Mapping) else {}
    wrong = [name for name, checkpoint in named.items() if not isinstance(checkpoint, (Fit, Pair, Mapping))]
    if wrong or not named:
        got = {name: type(named[name]).__name__ for name in wrong} or repr(at)
        raise BadInput(
            f"at={got} is not valid. Wanted: None, 'start', 'middle', 'end', 'step 10', 'trajectory', fits, or a non-empty mapping from names to vb.Fit, vb.Pair or parameters."
        )
    return named


def points_of_training(at: Any) -> tuple[str, ...] | None:
    """The points of training that `at` requests, by their names in the table; None if `at` does not refer to a training."""
    asked: Any = (at,) if at is None or isinstance(at, str) else at
    if not isinstance(asked, Sequence) or not asked:
        return None
    known = all(one is None or isinstance(one, str) and re.fullmatch(NAMED, one) for one in asked)
    return tuple("three" if one is None else one for one in asked) if known else None


def trained_checkpoints(start: Fit, steps: int, at: Sequence[str], *, progress: bool) -> dict[str, Checkpoint]:
    """Points of one training, without duplicates.

    Args:
        start: The fit before its first step.
        steps: Total number of steps.
        at: "three" for start, middle and end; "trajectory", evenly on a logarithmic scale of steps; "start", "middle", "end" or "step 10".

    Raises:
        BadInput: A requested step is beyond the last.
    """
    marks: dict[str, int] = {}
    for one in at:
        if one == "trajectory":
            between = torch.logspace(0.0, 1.0, TRAJECTORY - 1, base=max(steps, 1), device="cpu").round().int().tolist()
            marks |= {f"step {mark}": mark for mark in [0, *between] if mark <= steps}
        elif one == "three":
            names = {steps // 2: "middle", steps: "end", 0: "start"}  # for the same step, the later name is used
            marks |= {names[mark]: mark for mark in sorted(names)}
        else:
            places = {"start": 0, "middle": steps // 2, "end": steps}
            marks[one] = places[one] if one in places else int(one.removeprefix("step "))
    if late := [name for name, mark in marks.items() if mark > steps]:
        raise BadInput(f"at={late[0]!r}, but the training has {steps} steps. Wanted: an earlier step, or more steps.")
    marks = dict(sorted(marks.items(), key=lambda mark: mark[1]))
    reached, found = start, {}
    for name, mark in marks.items():
        if mark > reached.steps:
            reached = reached.resume(steps=mark - reached.steps, progress=progress)
        if reached.interrupted:  # Ctrl-C only ends a fit; here it should end everything
            raise KeyboardInterrupt
        found[name] = reached
    return dict(found)


def seeds_of_training(seed: int, names: Iterable[str]) -> list[int]:
    """Seeds for the draws at points of training, by their names, so that a single point has the same draws as in a longer table."""
    places = [PLACES.index(name) if name in PLACES else len(PLACES) + int(name.removeprefix("step ")) for name in names]
    return [rng.child(seed, place) if place else seed for place in places]


def pair_at(name: str, checkpoint: Checkpoint, problem: Problem) -> Pair:
    """A copy of the pair to measure at.

    Raises:
        BadInput: Its parameters are not those of the measured pair.
    """
    if isinstance(checkpoint, Mapping):
        return problem.pair.at(checkpoint)
    return problem.alike(checkpoint.pair if isinstance(checkpoint, Fit) else checkpoint, f"at[{name!r}]")
