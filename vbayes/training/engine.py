"""What takes the steps of a training: the contract, and why a step was not taken."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from pyro.infer import ELBO

from ..data.dataset import Batch, Dataset
from ..pair.pair import Pair
from ..pair.sites import sites
from .optimizer import GuardedOptimizer, OneOptimizer

CHANGED = (
    "Pair {pair!r} has changed since it was captured, {steps} steps ago: model or guide must depend on something beside "
    "parameters, arguments and draws, such as a counter of its own. Hand that in as a tensor argument."
)
KEEPS_CHANGING = (
    "Pair {pair!r} reads {places} beside its arguments, which keeps changing, and a program has its value built in. Hand it in as a "
    "tensor argument."
)
CHANGES = 4  # of such values that another program is made for
WORTH = 300  # steps from which compiling pays: it takes some seconds, and saves some ten milliseconds in each step

Stepper = OneOptimizer | GuardedOptimizer


@dataclass(frozen=True)
class Failure:
    """Why there is no next step.

    Attributes:
        what: What is not finite.
        sites: Those whose log-density is not finite there.
    """

    what: str
    sites: tuple[str, ...]


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
    def rows(self) -> Sequence[tuple[int, int, float, float, float]]: ...


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


def culprits(pair: Pair, batch: Batch) -> tuple[str, ...]:
    """The sites whose density is not finite for the next draw, inside the pair's scope."""
    with torch.no_grad():
        q, p = pair.run(batch)
        found = {
            site["name"]: None
            for site in sites(q) + sites(p)
            if not torch.isfinite(site["fn"].log_prob(site["value"], *site["args"], **site["kwargs"])).all()
        }
    return tuple(found)
