"""Training until convergence: phases at constant learning rates, until a further one would gain nothing."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeVar

from ..data.dataset import Dataset
from ..errors import BadInput
from ..estimators import name_of
from ..estimators.base import Estimator
from ..guides import in_words
from ..progress import bar, between_steps
from .autosave import Autosave
from .budget import Budget
from .callbacks import Callback
from .ranks import Ranks
from .schedule import Schedule
from .settled import settled
from .tolerance import Tolerance

F = TypeVar("F", bound=Any)  # a `Fit`


def until_converged(
    fresh: F,
    *,
    max_steps: int | None = None,
    max_seconds: float | None = None,
    callbacks: Sequence[Callback] = (),
    progress: bool = True,
    validation: Dataset | None = None,
    rate: float | None = None,
    tolerance: Tolerance | None = None,
    autosave: Autosave | None = None,
    at: dict[str, Any] | None = None,
    last: bool = True,
    ranks: Ranks | None = None,
    what: str | None = None,
) -> F:
    """Trains a fit, whose pair is modified in place, until it has converged or the budget is used up. A guide chosen by name may have converged from the start.

    The steps are those of Adam, in phases at constant learning rates. Each rate is a quarter of the previous one, and each phase starts from the best ELBO so far. A phase consists of
    windows of increasing length. It ends when the mean of a window's iterates is no better than that of the previous window, at the same draws and
    minibatches, and these iterates are stationary or this happens a second time; or when a window gains less than a quarter of what the noise of the iterates
    costs at this rate, which a lower rate would save. Training ends when a further phase would gain less than the tolerance: the error of averaged
    iterates falls with the rate, so the next phase gains a fraction of what the last one did; the worst case of a quarter is assumed, plus two
    standard errors. The parameters become the mean of the iterates with the best ELBO, if that is as good as the ELBO of the last iterate.

    Args:
        fresh: A `Fit` that is ready to take steps; one that has taken some is continued.
        max_steps, max_seconds: See `Budget`.
        callbacks, progress: As for `fit`.
        validation: Held-out data whose ELBO is used instead of that of the fit's own data: when it stops rising, a phase ends, and the best point is kept. For guides that
            compute the latents of unseen data. `Phase.elbo` is then that ELBO, rescaled to the size of the training data.
        rate: Learning rate of the first phase; found by trials if None.
        tolerance: Gain that counts as none; by default that of `Tolerance.of`.
        autosave: Saves the fit while it runs.
        at: State of the schedule in the file, when continuing.
        last: Whether this is the last stage, so that the file is then marked as finished.
        ranks: The processes that train together.
        what: Label for the progress bars; if None, the guide, or "fit" for a user-defined one.

    Raises:
        BadInput: The budget is not valid, the guide can't be evaluated on held-out data, or the values of the estimator can't be used to judge convergence.
        NonFinite: Parameters became NaN or infinite repeatedly, even at smaller and smaller rates.

    References:
        Welandawe, Andersen, Vehtari & Huggins 2022, A framework for improving the reliability of black-box variational inference, arXiv:2203.15945: phases, means
        of iterates, what a further phase gains.
    """
    _require_telling_values(fresh.estimator)
    if validation is None and (there := settled(fresh)) is not None:
        if autosave:
            autosave.keep(there, finished=last)
        return there  # type: ignore[no-any-return]
    budget, what = Budget.of(max_steps, max_seconds), what or in_words(fresh.pair.guide) or "fit"
    with (
        bar(f"{what}, learning rate", None, show=progress, unit="trial", seconds=budget.seconds) as advance,
        (ranks.between_steps if ranks else between_steps)(saves=autosave is not None) as asked_to_stop,
    ):
        limit = tolerance or Tolerance.of(fresh)
        if validation is not None and not limit.network:
            raise BadInput(
                f"validation= was given, but the guide of pair {fresh.pair.name!r} can't compute the latents of unseen data, so held-out data can't tell when to stop. Wanted: an amortized guide, "
                "which computes each datum's latents from the datum, or no validation."
            )
        schedule = Schedule(
            fresh, budget, limit, validation, rate, callbacks, advance, asked_to_stop, autosave, at, ranks, what
        )
        reached = schedule.run()
        if autosave and not reached.interrupted:
            autosave.keep(reached, finished=last, behind=not last)
        return reached  # type: ignore[no-any-return]


def _require_telling_values(method: Any) -> None:
    """Raises `BadInput` for an objective that is minimised, as its estimates from few draws are lowest when no draw reaches the posterior."""
    if isinstance(method, Estimator) and not (method.objective.ascend or method.unbiased_in):
        name = name_of(method)
        raise BadInput(
            f"estimator={name} without steps or epochs: its estimate of {method.objective.name}, which is minimised, is lowest when no draw reaches the posterior, so "
            "it can't be used to choose a learning rate or to stop. Wanted: a number of steps. Fix: steps=2000, learning_rate=0.01; then check the result with fit.diagnose()."
        )
