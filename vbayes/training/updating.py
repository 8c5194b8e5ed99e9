"""What a fit's update makes of its pair: an optimiser for these parameters, or an engine of its own."""

from __future__ import annotations

import functools
from typing import Any

import torch

from ..arguments.kind import refuse
from ..errors import BadInput, Unsuitable
from ..estimators import followed
from ..pair.subsample import seen_of
from ..updates import BatchAndMatch, NaturalGradient, ScoreMatching
from .matching import Matching, whole_normal

MATCHING = (BatchAndMatch, ScoreMatching)


def is_update(optimizer: Any) -> bool:
    """Whether what stands in an optimiser's place is an update."""
    return isinstance(optimizer, NaturalGradient | BatchAndMatch | ScoreMatching)


def scores_alone(optimizer: Any) -> bool:
    """Whether it has no use for an estimator."""
    return isinstance(optimizer, MATCHING)


def updated(
    optimizer: Any, update: Any, *, told: bool, estimator: Any = None, batch_size: int | None = None, learning_rate: float | None = None,
    average: bool | None = None,
) -> Any:  # fmt: skip
    """What a fit has for an optimiser: an update in its place, where there is one.

    Args:
        optimizer, update, estimator, batch_size, learning_rate, average: As given to `fit`.
        told: Whether it was told how far to go.

    Raises:
        BadInput: No update, or something beside it that it has no use for.
    """
    if update is None:
        return optimizer
    if not is_update(update):
        refuse(
            "update", update, wanted="vb.NaturalGradient(), vb.BatchAndMatch() or vb.ScoreMatching()", mend="update=vb.NaturalGradient(rate=0.1)"
        )  # fmt: skip
    if optimizer is not torch.optim.Adam:
        name = getattr(optimizer, "__name__", type(optimizer).__name__)
        raise BadInput(
            f"update={update} and optimizer={name}: an update is in place of an optimiser, and moves all else by Adam. Wanted: one of the two."
        )
    if not told:
        raise BadInput(
            f"update={update}, and neither steps nor epochs: a fit that trains until it has converged finds the rates of its own Adam. Wanted: how far to go, "
            "as steps= or epochs=."
        )
    if average:
        raise BadInput(
            f"update={update} and average=True: the mean of iterates is that of Adam's. Wanted: one of the two."
        )
    asked = {"estimator": estimator, "batch_size": batch_size, "learning_rate": learning_rate}
    if scores_alone(update) and (given := [f"{name}={value!r}" for name, value in asked.items() if value is not None]):
        beside = " and ".join(given)
        raise BadInput(
            f"update={update} and {beside}: it takes scores of all data at draws, and no estimator's gradient; what differs between minibatches it would take for curvature. Wanted: it alone. Mend: leave out the other, or "
            "update=vb.NaturalGradient()."
        )
    return update


def optimizer_of(fit: Any) -> Any:
    """The optimiser of a fit as `optimizer_for` takes it, inside its pair's scope.

    Raises:
        Unsuitable: The guide is none for the fit's update.
    """
    if scores_alone(fit.optimizer):
        return functools.partial(torch.optim.SGD, lr=0.0)  # which is never asked
    if not isinstance(fit.optimizer, NaturalGradient):
        return fit.optimizer
    rows = None if fit.batch_size is None else torch.arange(fit.batch_size, device=fit.data.first.device)
    return fit.optimizer.of(fit.pair, fit.data.batch(fit.pair.model, rows))


def own_engine(fit: Any, *, compiled: bool) -> Matching | None:
    """The engine that a fit's update brings, inside its pair's scope; None where gradients are followed.

    Args:
        compiled: As for `Matching`.

    Raises:
        Unsuitable: As for `Matching`.
    """
    return Matching(fit, fit.steps, compiled=compiled) if scores_alone(fit.optimizer) else None


def check_update(fit: Any) -> None:
    """Raises `Unsuitable` where the guide is none for the fit's update, and `BadInput` where the data are none for it."""
    with fit.pair.scope():
        if scores_alone(fit.optimizer):
            if fit.data.chances is not None:
                raise BadInput(
                    f"update={fit.optimizer} and binarize='dynamic': it takes the scores of one set of data. Wanted: data that stay, as binarize='static' makes them."
                )
            batch = fit.data.batch(fit.pair.model)
            whole_normal(fit.pair, batch)
            if part := seen_of(fit.pair, batch):
                raise Unsuitable(
                    f"{part} in pair {fit.pair.name!r}, and update={fit.optimizer} takes what differs between parts of the data for curvature: the normal would come out too narrow. Wanted: all "
                    "of them. Mend: let the model take its plate's size from its data, or update=vb.NaturalGradient()."
                )
        else:
            optimizer_of(fit)


def bound_of(fit: Any) -> str:
    """What the values in a fit's history are of: "ELBO", or the bound that its estimator follows; see `estimators.followed`."""
    method = None if scores_alone(getattr(fit, "optimizer", None)) else getattr(fit, "estimator", None)
    return "ELBO" if method is None else followed(method)
