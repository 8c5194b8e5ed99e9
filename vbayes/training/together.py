"""Data parallelism: one fit trained by several processes, as started by torchrun.

All processes call `vb.fit` with the same arguments. Each computes the gradient of its share of the rows of each minibatch, with the noise that a single process would use for those rows, and all step
along the mean gradient. The parameters are the same everywhere, and up to rounding those of one process with the whole minibatch. The history has the ELBO of the whole
minibatch. Only the first process shows the bar, writes the checkpoint, warns, and calls callbacks.

References:
    Li et al. 2020, PyTorch distributed: experiences on accelerating data parallel training, arXiv:2006.15704.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, TypeVar

from ..data.dataset import Dataset
from ..errors import BadInput
from ..guides import AUTO
from ..progress import Terminal
from .autosave import Autosave
from .by_ranks import ByRanks
from .callbacks import Callback
from .engine import repays
from .identity import identity
from .ranks import MEND, Ranks
from .train import train
from .until_converged import until_converged
from .updating import scores_alone

F = TypeVar("F", bound=Any)  # a `Fit`
CARRIED = (
    "rows",
    "progress",
    "learning_rate",
    "switches",
    "convergence",
)  # attributes of a fit, besides the values of its pair


def refuse_together(ranks: Ranks, *, automatic: bool, restarts: int | None, average: bool, optimizer: Any) -> None:
    """Rejects options that are not available with several processes.

    Raises:
        BadInput: Such an option was given.
    """
    asked = {
        "estimator='auto'": automatic,
        f"restarts={restarts}": restarts is not None,
        "average=True with a given number of steps": average,
        f"update={optimizer}": scores_alone(optimizer),
    }
    if named := [words for words, there in asked.items() if there]:
        raise BadInput(
            f"{' and '.join(named)} with {ranks.world} processes that train together. Wanted: one fit with one estimator. {MEND}"
        )


def begin_together(
    fit: F, ranks: Ranks, autosave: Autosave | None, held_out: Dataset | None = None, **asked: Any
) -> tuple[F, dict[str, Any]]:
    """The fit that all processes continue with, and the contents of its file, both from the first process, after a check that all were called with the same arguments.

    Args:
        fit: A fit of zero steps; its pair is modified in place.
        autosave: Saves the fit; only the first process reads and writes.
        held_out: Data that decide when to stop.
        asked: Further arguments that must be the same.

    Raises:
        BadInput: The processes were called with different arguments.
    """
    shapes = {name: tuple(value.shape) for name, value in fit.pair.parameters.items()}
    every = ranks.gather(identity(fit, held_out) | asked | {"parameters": shapes})
    for number, other in enumerate(every):
        if differs := [
            f"{name} {other[name]!r}, not {mine!r}" for name, mine in every[0].items() if other[name] != mine
        ]:
            raise BadInput(
                f"Process {number} was called with a different fit than process 0: it has {'; '.join(differs)}. Wanted: the same call in all {ranks.world} processes, with all data; each "
                f"process picks its own share of each minibatch. {MEND}"
            )

    def begin() -> dict[str, Any]:
        begun, told = (fit, {}) if autosave is None else autosave.begin(fit, finds=lambda fit, told: fit)
        carried = {name: getattr(begun, name) for name in CARRIED}
        return {"told": told, "values": begun.pair.state(), **carried}

    found = ranks.by_first(begin)
    where, told = fit.pair.device, found.pop("told")
    fit.pair.load(found.pop("values")).to(where)
    return replace(fit, **found), told


def _by_first(
    ranks: Ranks, show: bool, callbacks: Sequence[Callback], autosave: Autosave | None
) -> tuple[bool, dict[str, Any]]:
    """Whether this process shows progress and does everything else that only the first process does; if progress is shown, the first process reports the number of processes."""
    if not ranks.first:
        return False, {}
    if show:
        Terminal(stderr=True).print(
            f"{ranks.world} processes train together, each on its share of every minibatch.", soft_wrap=True
        )
    return show, {"callbacks": callbacks, "autosave": autosave}


def train_together(
    fit: F,
    steps: int,
    ranks: Ranks,
    *,
    show: bool,
    callbacks: Sequence[Callback] = (),
    autosave: Autosave | None = None,
) -> F:
    """Takes `steps` more steps of a fit, like `train`.

    Raises:
        BadInput: The rows can't be divided; see `sharing_of`.
        NonFinite: A step could not be taken; raised in all processes.
        ProcessLost: Another process has died, or executes other code.
    """
    show, mine = _by_first(ranks, show, callbacks, autosave)
    mine |= {"make": functools.partial(ByRanks, ranks=ranks), "stopping": ranks.between_steps}
    with ranks.quiet():
        return train(fit, steps, show=show, staged=repays(fit.compile, fit.steps + steps), **mine)


def until_converged_together(
    fit: F, ranks: Ranks, *, progress: bool, callbacks: Sequence[Callback], autosave: Autosave | None, **options: Any
) -> F:
    """Trains until convergence, like `until_converged`: all processes base decisions on the same values, including the clock of the first process.

    Args:
        options: Other options of `until_converged`.

    Raises:
        BadInput: As for `train_together`; or the guide may be replaced by another one during training.
    """
    if fit.pair.word == AUTO:
        raise BadInput(
            f"guide='auto', which may switch to another guide, with {ranks.world} processes that train together. Wanted: a guide of your own, or a named one, such as guide='full'. "
            f"{MEND}"
        )
    progress, mine = _by_first(ranks, progress, callbacks, autosave)
    with ranks.quiet():
        return until_converged(fit, progress=progress, ranks=ranks, **mine, **options)
