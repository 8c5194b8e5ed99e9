"""Engines, which take the steps of training: their contract."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

from pyro.infer import ELBO

from ..data.dataset import Dataset
from ..pair.pair import Pair
from ..staging.backends import asked_for
from .failure import Failure
from .history import History
from .optimizer import GuardedOptimizer, OneOptimizer

CHANGED = (
    "Pair {pair!r} has changed since it was captured, {steps} steps ago: its model or guide must depend on something other than "
    "parameters, arguments and draws, such as a counter. Pass that as a tensor argument."
)
KEEPS_CHANGING = (
    "Pair {pair!r} reads {places} besides its arguments; that keeps changing, but a compiled program fixes its value. Pass it as a "
    "tensor argument."
)
KEEPS_READING = (
    "Pair {pair!r} reads values of its arguments{line}, and has seen more than {count} different ones: each needs a compiled program of its own, and only {count} are made. "
    "Wanted: tensor operations throughout, such as torch.where(x > 0, a, b), or a constant bound, such as the maximum length."
)
VALUES = 8  # maximum number of different values read from arguments, each with a program of its own
CHANGES = 4  # maximum number of times that programs are made again for changed values
WORTH = 400
"""Number of steps from which `compile="auto"` compiles. Capturing and compiling takes as long as 90 to 400 of Pyro's steps, whatever the length of a program, as both grow with its operations:
at 400 steps the four most expensive test programs took .7 to 1.0 times as long in total as Pyro alone (measured by `experiments/compiling_pays.py`). The number is fixed, not measured at run time, as timings must
not decide on the random numbers of a fit."""
XLA_WORTH = 5000
"""Total number of steps from which "auto" uses XLA if there is no machine code: its compiler takes as long as up to 4500 of Pyro's steps. Below, the captured program is
interpreted."""


def repays(compile: bool | str, steps: float) -> bool:
    """Whether `compile=` asks for a program for this number of steps."""
    return asked_for(compile) or (compile == "auto" and steps >= WORTH)


def spared(compile: bool | str, total: float) -> str | None:
    """The back end for `compile=` and this total number of steps: "auto" uses no compiler whose time so few steps would not repay."""
    return "native" if compile == "auto" and total < XLA_WORTH else None


def settled(compile: bool | str, steps: float) -> bool | str:
    """`compile=` with "auto" resolved, for a fit whose steps are taken in several parts, so that it is the same for all parts."""
    return compile if compile != "auto" else repays(compile, steps) and (spared(compile, steps) or True)


Stepper = OneOptimizer | GuardedOptimizer


class Setup(Protocol):
    """What to train, on which data, and how; a `Fit` is one."""

    @property
    def pair(self) -> Pair: ...
    @property
    def data(self) -> Dataset: ...
    @property
    def estimator(self) -> ELBO: ...
    @property
    def batch_size(self) -> int | None: ...
    @property
    def optimizer(self) -> Any: ...
    @property
    def learning_rate(self) -> float | None: ...
    @property
    def seed(self) -> int: ...
    @property
    def compile(self) -> bool | str: ...
    @property
    def rows(self) -> History: ...


class Engine(Protocol):
    """Something that takes the steps of training.

    Attributes:
        several: Whether many steps in one call cost less than as many calls.
        failure: Set when there is no next step.
    """

    several: bool
    failure: Failure | None

    def take(self, count: int) -> Sequence[Any]:
        """Takes up to `count` more steps; returns for each the ELBO before it in nats, or several of those."""
        ...

    def look_again(self) -> None:
        """Raises `CaptureFailed` if the model has changed since it was captured."""
        ...

    def finish(self) -> None:
        """Writes the current parameters to the pair, and the current state to the optimiser."""
        ...
