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
VALUES = 8  # that are read of arguments, for each of which a program is made
CHANGES = 4  # of such values that another program is made for
WORTH = 400
"""Steps from which `compile="auto"` compiles. To capture and compile costs what 90 to 400 of Pyro's steps do, whatever the length of a program, for both grow with its operations:
at 400 steps the four dearest of the test programs took .7 to 1.0 times as long in all as by Pyro alone, as `experiments/compiling_pays.py` measures it. It is no measurement itself, for the clock must not
decide on the random numbers of a fit."""
XLA_WORTH = 5000
"""Steps of a fit, in all, from which "auto" asks XLA where there is no machine code: its compiler takes what up to 4500 of Pyro's steps do. Below, the captured program is
interpreted."""


def repays(compile: bool | str, steps: float) -> bool:
    """Whether to make a program of so many steps, as `compile=` has it."""
    return asked_for(compile) or (compile == "auto" and steps >= WORTH)


def spared(compile: bool | str, total: float) -> str | None:
    """The back end in place of the one that `compile=` names, for a fit of so many steps in all: "auto" asks no compiler that these would not repay."""
    return "native" if compile == "auto" and total < XLA_WORTH else None


def settled(compile: bool | str, steps: float) -> bool | str:
    """`compile=` without "auto", for what takes a fit's steps in several parts: it is the same for each of them."""
    return compile if compile != "auto" else repays(compile, steps) and (spared(compile, steps) or True)


Stepper = OneOptimizer | GuardedOptimizer


class Setup(Protocol):
    """What is trained on what, and how: a `Fit` is one."""

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
    """What takes steps.

    Attributes:
        several: Whether many steps in a call cost less than as many calls.
        failure: Set when there is no next step.
    """

    several: bool
    failure: Failure | None

    def take(self, count: int) -> Sequence[Any]:
        """Up to `count` more steps: what each has to report, its ELBO in nats before it or several of those."""
        ...

    def look_again(self) -> None:
        """Raises `CaptureFailed` where the model is not what it was."""
        ...

    def finish(self) -> None:
        """Hands over what was held back: the pair has its parameters, the optimiser its state."""
        ...
