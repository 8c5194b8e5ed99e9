"""Training that is not told how far to go: phases at constant rates, until a further one would gain nothing."""

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
    """Trains a fit, whose pair is ours to change, until it has converged or the budget is used up; a guide by a word may be there from the start.

    The steps are Adam's, in phases at constant rates, of which each is a quarter of the one before and begins where the best ELBO was. A phase goes on in
    windows, each longer than the one before, until the mean of a window's iterates is no better than that of the window before, at the same draws and
    minibatches, and these iterates are stationary or it is so a second time; or until what a window gains is less than a quarter of what the iterates' wandering
    costs at this rate, which a lower one saves. The last phase is that after which a further one would gain less than the tolerance: the error of averaged
    iterates falls with the rate, so that the next phase gains a fraction of what the last one did; a quarter, where that is slowest, is reckoned with, and two
    standard errors. The parameters become the mean of the iterates whose ELBO is the best, where it is as good as that of where the steps have led.

    Args:
        fresh: A `Fit` that is ready to take steps. One that has taken some goes on from there.
        max_steps, max_seconds: See `Budget`.
        callbacks, progress: As for `fit`.
        validation: Data of which the ELBO decides in place of that of the fit's own: where it rises no more, a phase ends, and the best of it is kept. For guides that
            name the latents of data that they have not seen. `Phase.elbo` is then its, for as many data as there are to fit.
        rate: Of the first phase; found by trials if None.
        tolerance: What gains count for nothing; by default that of `Tolerance.of`.
        autosave: Saves the fit while it runs.
        at: What the file says of where its schedule stood, for one that goes on.
        last: Whether nothing comes after it, so that the file then says that it is finished.
        ranks: The processes that train it together.
        what: It is, for the bars; its guide, or "fit" for one of a user's own, if None.

    Raises:
        BadInput: A budget that is none, or held-out data for a guide that has nothing to say of them; or an estimator whose values can't tell.
        NonFinite: Parameters became NaN or infinite time and again, at smaller and smaller rates.

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
        (ranks.between_steps if ranks else between_steps)() as asked_to_stop,
    ):
        limit = tolerance or Tolerance.of(fresh)
        if validation is not None and not limit.network:
            raise BadInput(
                f"validation=, and the guide of pair {fresh.pair.name!r} names no latents of data that it has not seen: held-out data would not tell when to stop. Wanted: a guide "
                "that makes each datum's latents from the datum, or no validation."
            )
        schedule = Schedule(
            fresh, budget, limit, validation, rate, callbacks, advance, asked_to_stop, autosave, at, ranks, what
        )
        reached = schedule.run()
        if autosave and not reached.interrupted:
            autosave.keep(reached, finished=last, behind=not last)
        return reached  # type: ignore[no-any-return]


def _require_telling_values(method: Any) -> None:
    """Raises `BadInput` for an objective that is lowered, and of which an estimate of few draws is lowest where none of them meets the posterior."""
    if isinstance(method, Estimator) and not (method.objective.ascend or method.unbiased_in):
        name = name_of(method)
        raise BadInput(
            f"estimator={name}, and neither steps nor epochs: what its draws show of {method.objective.name}, which is to be lowered, is lowest where none of them meets the posterior, so "
            "it tells neither a good learning rate nor when to stop. Wanted: how far to go. Mend: steps=2000, learning_rate=0.01; then fit.diagnose() says what came of it."
        )
