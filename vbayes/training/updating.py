"""Makes the optimiser or engine of a fit's update."""

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
    """Whether an object given as the optimiser is an update."""
    return isinstance(optimizer, NaturalGradient | BatchAndMatch | ScoreMatching)


def scores_alone(optimizer: Any) -> bool:
    """Whether an update works without an estimator."""
    return isinstance(optimizer, MATCHING)


def updated(
    optimizer: Any, update: Any, *, told: bool, estimator: Any = None, batch_size: int | None = None, learning_rate: float | None = None,
    average: bool | None = None,
) -> Any:  # fmt: skip
    """The optimiser of a fit, or the update used instead.

    Args:
        optimizer, update, estimator, batch_size, learning_rate, average: As given to `fit`.
        told: Whether the length of the fit is given.

    Raises:
        BadInput: It is not an update, or an argument has no effect with it.
    """
    if update is None:
        return optimizer
    if not is_update(update):
        text = str(getattr(update, "__name__", update)).replace("_", "").lower()
        meant = next((kind.__name__ for kind in MATCHING if kind.__name__.lower() == text), "NaturalGradient")
        refuse(
            "update", update, wanted="vb.NaturalGradient(), vb.BatchAndMatch() or vb.ScoreMatching()", mend=f"update=vb.{meant}()"
        )  # fmt: skip
    if optimizer is not torch.optim.Adam:
        name = getattr(optimizer, "__name__", type(optimizer).__name__)
        raise BadInput(
            f"update={update} and optimizer={name}: an update replaces the optimiser, and updates all other parameters by Adam. Wanted: one of the two."
        )
    if not told:
        raise BadInput(
            f"update={update} without steps or epochs: training until convergence uses its own Adam. Wanted: a length, "
            "steps= or epochs=."
        )
    if average:
        raise BadInput(f"update={update} and average=True: only iterates of Adam are averaged. Wanted: one of the two.")
    asked = {"estimator": estimator, "batch_size": batch_size, "learning_rate": learning_rate}
    if scores_alone(update) and (given := [f"{name}={value!r}" for name, value in asked.items() if value is not None]):
        beside = " and ".join(given)
        raise BadInput(
            f"update={update} and {beside}: this update uses scores of all data at draws, without an estimator; it would mistake differences between minibatches for curvature. Wanted: only the update. Fix: leave out the other argument, or "
            "update=vb.NaturalGradient()."
        )
    return update


def optimizer_of(fit: Any) -> Any:
    """The optimiser of a fit in the form for `optimizer_for`, inside its pair's scope.

    Raises:
        Unsuitable: The guide can't be used with the fit's update.
    """
    if scores_alone(fit.optimizer):
        return functools.partial(torch.optim.SGD, lr=0.0)  # it is never used
    if not isinstance(fit.optimizer, NaturalGradient):
        return fit.optimizer
    rows = None if fit.batch_size is None else torch.arange(fit.batch_size, device=fit.data.first.device)
    return fit.optimizer.of(fit.pair, fit.data.batch(fit.pair.model, rows))


def own_engine(fit: Any, *, compiled: bool) -> Matching | None:
    """The engine of a fit's update, inside its pair's scope; None if training follows gradients.

    Args:
        compiled: As for `Matching`.

    Raises:
        Unsuitable: As for `Matching`.
    """
    return Matching(fit, fit.steps, compiled=compiled) if scores_alone(fit.optimizer) else None


def check_update(fit: Any) -> None:
    """Raises `Unsuitable` if the guide can't be used with the fit's update, and `BadInput` if the data can't."""
    with fit.pair.scope():
        if scores_alone(fit.optimizer):
            if fit.data.chances is not None:
                raise BadInput(
                    f"update={fit.optimizer} and binarize='dynamic': this update needs data that do not change. Wanted: fixed data, such as those of binarize='static'."
                )
            batch = fit.data.batch(fit.pair.model)
            whole_normal(fit.pair, batch)
            if part := seen_of(fit.pair, batch):
                raise Unsuitable(
                    f"{part} in pair {fit.pair.name!r}, and update={fit.optimizer} would mistake differences between parts of the data for curvature and make the normal too narrow. Wanted: all "
                    "of the data. Fix: let the model take its plate's size from its data, or use update=vb.NaturalGradient()."
                )
        else:
            optimizer_of(fit)


def bound_of(fit: Any) -> str:
    """The name of the values in a fit's history: "ELBO", or the bound that its estimator maximises; see `estimators.followed`."""
    method = None if scores_alone(getattr(fit, "optimizer", None)) else getattr(fit, "estimator", None)
    return "ELBO" if method is None else followed(method)
