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
CARRIED = ("rows", "progress", "learning_rate", "switches", "convergence")  # of a fit, beside its pair's values


def refuse_together(ranks: Ranks, *, automatic: bool, restarts: int | None, average: bool, optimizer: Any) -> None:
    """What several processes do not do together.

    Raises:
        BadInput: It was asked for.
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
    """The fit that all go on with, and what its file says of it: the first process's, after a look at whether all were asked for the same.

    Args:
        fit: Of no steps. Its pair is ours to change.
        autosave: What keeps it; the first process reads and writes.
        held_out: Data that decide when to stop.
        asked: What has to be the same besides.

    Raises:
        BadInput: They were asked for different fits.
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
    """Whether this process shows a bar, and what else is the first one's to do; which says, where anything is shown, that it is not alone."""
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
    """`steps` more steps of a fit, as `train` takes them.

    Raises:
        BadInput: Rows that can't be shared out; see `sharing_of`.
        NonFinite: A step could not be taken, in all of them.
        ProcessLost: Another one has died, or does something else.
    """
    show, mine = _by_first(ranks, show, callbacks, autosave)
    mine |= {"make": functools.partial(ByRanks, ranks=ranks), "stopping": ranks.between_steps}
    with ranks.quiet():
        return train(fit, steps, show=show, staged=repays(fit.compile, fit.steps + steps), **mine)


def until_converged_together(
    fit: F, ranks: Ranks, *, progress: bool, callbacks: Sequence[Callback], autosave: Autosave | None, **options: Any
) -> F:
    """A fit that is not told how far to go, as `until_converged` takes it: what it decides by, all see alike, the clock of the first process too.

    Args:
        options: Its other ones.

    Raises:
        BadInput: As `train_together`, and for a guide that may become another one on the way.
    """
    if fit.pair.word == AUTO:
        raise BadInput(
            f"guide='auto', which may switch to another guide, with {ranks.world} processes that train together. Wanted: a guide of your own, or a named one, such as guide='full'. "
            f"{MEND}"
        )
    progress, mine = _by_first(ranks, progress, callbacks, autosave)
    with ranks.quiet():
        return until_converged(fit, progress=progress, ranks=ranks, **mine, **options)
