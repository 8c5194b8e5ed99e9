"""Fitting a pair to data."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from typing import Any, Literal, overload

import torch
from pyro.infer import ELBO

from .. import rng
from ..data.dataset import Binarize, Dataset
from ..errors import BadInput, checks_keywords
from ..estimators import AnalyticKL, resolve
from ..estimators.memory import with_memory
from ..estimators.suits import check_suits, of_elbo
from ..guides import AUTO
from ..pair.check import require_parameters
from ..pair.pair import Pair
from ..pair.problem import Problem, Trained, pair_and_data, paired
from .averaged import train_averaged
from .budget import Budget, refuse_budget
from .fit_run import Callback, Progress, train
from .minibatches import count_steps
from .optimizer import optimizer_for, require_adam
from .restarts import Restarts
from .result import Fit
from .several import fit_restarts, fit_until_converged
from .until_converged import until_converged
from .verbs import verb

Model = Pair | Trained | Callable[..., Any]


@overload
def fit(pair: Model, data: Any = ..., estimator: Any = ..., *, restarts: None = None, **options: Any) -> Fit: ...
@overload
def fit(pair: Model, data: Any = ..., estimator: Any = ..., *, restarts: int, **options: Any) -> Restarts: ...
@checks_keywords  # type: ignore[misc]  # the options stand here, in full
def fit(
    pair: Model,
    data: Any = None,
    estimator: str | type[ELBO] | ELBO | None = None,
    *,
    guide: str | Callable[..., Any] | None = None,
    steps: int | None = None,
    epochs: int | None = None,
    max_steps: int | None = None,
    max_seconds: float | None = None,
    validation: Any = None,
    batch_size: int | None = None,
    optimizer: Any = torch.optim.Adam,
    learning_rate: float | None = None,
    seed: int | None = None,
    device: str = "auto",
    compile: Literal["auto"] | bool = "auto",
    restarts: int | None = None,
    binarize: Binarize | None = None,
    average: bool | None = None,
    callbacks: Sequence[Callback] = (),
    progress: bool = True,
) -> Fit | Restarts:
    """Maximises the ELBO by stochastic gradient ascent: for so many steps or epochs, or, where neither is given, until it has converged.

    The second needs no settings: rates are found, iterates averaged, and the fit's `convergence` says what it has come to; see
    `vbayes.training.until_converged`. Ctrl-C returns what there is.

    Args:
        pair: Model and guide; it is copied, never changed. A fit goes on from where it is, as a new fit. A model alone gets a guide by itself.
        data: A `Dataset`, a tensor or array of shape (N, ...), or a tuple or mapping of those.
        estimator: A name, a vbayes estimator, or any `pyro.infer.ELBO`; `AnalyticKL` if None, or `Enumerated` where a guide by a word leaves sites to be summed out. "auto" asks `vb.recommend` at the start, after a tenth and after
            half of the steps; the fit's `switches` say what it chose. Its choice depends on the clock.
        guide: For a model alone: a word (see `Pair`; "auto" if None), or a guide. "auto", without `steps`, `epochs` and an estimator, is a normal where the diagnosis
            lets its draws pass, weighted or not, and otherwise a flow, if that is better; the fit's `tried` say what they were worth.
        steps: Optimiser steps; or
        epochs: passes over the data. Neither: until a further phase would gain less than .01 nats (.001 more for each datum with latents of its
            own; .02 a datum where one network names the latents of all), or the budget is used up. With estimator="auto", neither means 1000 steps: it asks after parts of them,
            and two estimators have no one ELBO that a plateau could be seen in.
        max_steps, max_seconds: The budget of a fit that is told neither: 100 000 steps (trials and looks come on top) and 600 s if None. Within it, the clock
            has no say in the numbers.
        validation: Data like `data` that are not trained on: for a guide that makes latents from data, such as a VAE's, their ELBO decides when to stop, and which
            parameters are kept.
        batch_size: M, rows in a minibatch; None takes all rows in each step.
        optimizer: With `steps` or `epochs`: a `torch.optim` class, or a `pyro.optim` object (a scheduler among them steps once an epoch).
        learning_rate: For a `torch.optim` class; None leaves its default. Without `steps` and `epochs` the first rate, found by trials if None.
        seed: Of the draws and the order of the data; `vb.default_seed()` if None. Initial parameters belong to the pair.
        device: "cpu", "cuda", "cuda:1"; "auto" takes CUDA where there is one.
        compile: Turn pair, estimator and optimiser into one program: True, False (Pyro takes the steps, so that one can
            look on), or "auto": where the number of steps repays it. What can't be turned into one is trained by Pyro,
            after a warning that says why. The two draw different random numbers.
        restarts: R independent fits from R starts; they come back together, as `Restarts`. With `steps` or `epochs` in one loop, otherwise one after the other, until each has
            converged, with `max_seconds` for all of them; a guide by a word stays the one that it is. The first start is the
            pair's own; see `vbayes.pair.initial_values.another_start` for the others.
        binarize: Make grey data in [0, 1] black and white, for a Bernoulli likelihood: "threshold", "static" or "dynamic", anew in each
            epoch; see `Dataset.binarized`, whose data `Fit.load` wants for such a fit.
        average: Whether the parameters become the mean of the last iterates, by Adam at a constant rate: of the later half of `steps` or `epochs`; without these, of the best window.
            None is no with the former, and yes without them. The fit's `average` has it.
        callbacks: Each is called some ten times a second with the new rows of the history.
        progress: Show a bar with the ELBO per datum and its trend.

    Returns:
        `Fit`, the trained copy of the pair with its history; or `Restarts`, several of them.

    Raises:
        BadInput: What was handed in does not fit; the message says what, and how to mend it.
        NonFinite: The ELBO or its gradient left the real numbers. The error's `fit` holds the history and the last
            finite parameters.

    Examples:
        >>> fit = vb.fit(pair, data)  # until it has converged
        >>> fit.convergence.reason
        >>> fit = vb.fit(pair, vb.data.digits(), epochs=50, batch_size=100, learning_rate=1e-3)
        >>> fit.plot()
    """
    automatic = estimator == "auto"
    method = AnalyticKL() if automatic or estimator is None else resolve(estimator)
    if compile not in ("auto", True, False):
        raise BadInput(f"compile={compile!r}. Wanted: 'auto', True or False.")
    if restarts is not None and (not isinstance(restarts, int) or restarts < 1):
        raise BadInput(f"restarts={restarts!r}. Wanted: an integer of at least 1, or None for a single fit.")
    if average not in (None, True, False):
        raise BadInput(f"average={average!r}. Wanted: True, False or None.")
    if (
        average
        and (restarts is not None or automatic)
        and not (restarts is not None and steps is None and epochs is None)
    ):
        raise BadInput(
            "average=True with restarts or estimator='auto' for so many steps. Wanted: one fit by one estimator, or restarts that train until they have converged."
        )
    told = steps is not None or epochs is not None or automatic
    Budget.of(max_steps, max_seconds)
    if told:
        refuse_budget(max_steps=max_steps, max_seconds=max_seconds, validation=validation)
    seed = rng.or_default(seed)
    pair, data = pair_and_data(paired(pair, guide), data)
    dataset = Dataset.of(data) if binarize is None else Dataset.of(data).binarized(binarize, seed=seed)
    problem = Problem.of(pair, dataset, batch_size=batch_size, device=device)
    if automatic or (estimator is None and problem.pair.word):
        method = of_elbo(problem.pair, problem.first)
    check_suits(problem.pair, problem.first, method)  # one that can't work on this pair says so now
    require_parameters(problem.pair)
    method = with_memory(method, problem.pair)
    # A pyro.infer.ELBO remembers the plates of the first model it meets: each fit has its own.
    fresh = Fit(
        problem.pair, problem.data, copy.copy(method), batch_size, optimizer, learning_rate, seed, Progress.start(seed), compile=compile,
        average=average,
    )  # fmt: skip
    if not told:
        with problem.pair.scope():
            optimizer_for(problem.pair.leaves, optimizer, learning_rate)  # what it refuses, it refuses here too
        require_adam(optimizer)
        held_out = None
        if validation is not None:
            looks = (
                Dataset.of(validation) if binarize is None else Dataset.of(validation).binarized(binarize, seed=seed)
            )
            held_out = Problem.of(problem.pair, looks, device=str(problem.device)).data
        options: dict[str, Any] = {"callbacks": callbacks, "progress": progress, "rate": learning_rate}
        if restarts is not None:
            options |= {"max_steps": max_steps, "validation": held_out}
            return fit_until_converged(fresh, restarts, max_seconds=max_seconds, **options)
        if problem.pair.word == AUTO and estimator is None and held_out is None:
            return verb("climb")(fresh, max_steps=max_steps, max_seconds=max_seconds, **options)  # type: ignore[no-any-return]
        return until_converged(fresh, max_steps=max_steps, max_seconds=max_seconds, validation=held_out, **options)
    count = count_steps(problem.data, batch_size, steps, epochs)
    if automatic:
        from ..laboratory.auto import fit_automatically, refuse_restarts

        refuse_restarts(restarts)
        return fit_automatically(fresh, count, callbacks=callbacks, progress=progress)
    if average and count:
        return train_averaged(fresh, count, show=progress, callbacks=callbacks)
    if restarts is None:
        return train(fresh, count, show=progress, callbacks=callbacks)
    return fit_restarts(fresh, restarts, count, show=progress, callbacks=callbacks)
