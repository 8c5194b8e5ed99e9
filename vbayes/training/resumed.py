"""Continues a fit."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, TypeVar

from ..data.dataset import Dataset
from ..pair.problem import Problem
from .averaged import train_averaged
from .budget import refuse_budget
from .callbacks import Callback
from .minibatches import count_steps
from .optimizer import require_adam
from .ranks import ranks_of
from .together import begin_together, refuse_together, train_together, until_converged_together
from .train import train
from .until_converged import until_converged

F = TypeVar("F", bound=Any)


def resumed(
    fit: F, *, steps: int | None, epochs: int | None, max_steps: int | None, max_seconds: float | None, validation: Any, devices: int | None,
    callbacks: Sequence[Callback], progress: bool,
) -> F:  # fmt: skip
    """Implements `Fit.resume`; the given fit is unchanged."""
    fresh, looks = replace(fit, pair=fit.pair.copy()), None
    told = steps is not None or epochs is not None
    if told:
        refuse_budget(max_steps=max_steps, max_seconds=max_seconds, validation=validation)
    else:
        require_adam(fit.optimizer)
    if validation is not None:
        looks = Problem.of(fresh.pair, Dataset.of(validation, like=fit.data), device=str(fit.data.first.device)).data
    ranks = ranks_of(1 if steps == 0 or epochs == 0 else devices)
    far: dict[str, Any] = {"max_steps": max_steps, "max_seconds": max_seconds}
    if ranks is not None:
        average = bool(fit.average and told)
        refuse_together(ranks, automatic=False, restarts=None, average=average, optimizer=fit.optimizer)
        ranks.device(str(fit.data.first.device))
        fresh, _ = begin_together(fresh, ranks, None, looks, steps=steps, epochs=epochs, taken=fit.steps, **far)
    if not told:
        far |= {"callbacks": callbacks, "progress": progress, "validation": looks, "rate": _rate(fit)}
        if ranks is not None:
            return until_converged_together(fresh, ranks, autosave=None, **far)
        return until_converged(fresh, **far)
    count = count_steps(fit.data, fit.batch_size, steps, epochs)
    if ranks is not None:
        return train_together(fresh, count, ranks, show=progress, callbacks=callbacks)
    go = train_averaged if fit.average else train
    return go(fresh, count, show=progress, callbacks=callbacks)


def _rate(fit: Any) -> float | None:
    """The learning rate to continue with: the last one, or the first if a network settled but could improve further."""
    if fit.convergence is None or not fit.convergence.phases:
        return fit.learning_rate  # type: ignore[no-any-return]
    settled = fit.convergence.converged is None and not fit.interrupted
    return fit.convergence.phases[0 if settled else -1].rate  # type: ignore[no-any-return]
