"""Fitting a pair to data."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, overload

import torch
from pyro.infer import ELBO

from .. import rng
from ..arguments.function import FUNCTION
from ..arguments.kind import Optional, Several
from ..arguments.takes import takes
from ..data.dataset import BINARIZE, MISSING, Binarize, Dataset, Missing
from ..errors import BadInput
from ..estimators import AnalyticKL, resolve
from ..estimators.remembering import with_memory
from ..estimators.suits import check_suits, of_elbo
from ..guides import AUTO
from ..pair.check import require_parameters, say_left_out
from ..pair.paired import Model, paired
from ..pair.problem import Problem, pair_and_data
from ..staging.backends import Compile, require_backend
from .autosave import EVERY, Autosave
from .averaged import train_averaged
from .callbacks import Callback
from .combinations import require_combination
from .fit_run import Progress
from .from_disk import asked_of_disk, batch_size_of
from .identity import identity
from .minibatches import count_steps
from .optimizer import optimizer_for, require_adam
from .ranks import ranks_of
from .restarts import Restarts
from .result import Fit
from .several import fit_restarts, fit_until_converged
from .together import begin_together, refuse_together, train_together, until_converged_together
from .train import train
from .until_converged import until_converged
from .updating import check_update, scores_alone, updated
from .verbs import verb


# For type checkers and editors: what comes back hangs on `restarts` alone.
@overload
def fit(
    pair: Model, data: Any = None, estimator: str | type[ELBO] | ELBO | None = None, *, guide: str | Callable[..., Any] | None = None,
    steps: int | None = None, epochs: int | None = None, max_steps: int | None = None, max_seconds: float | None = None, validation: Any = None,
    batch_size: int | None = None, optimizer: Any = ..., learning_rate: float | None = None, update: Any = None, seed: int | None = None,
    device: str = "auto", devices: int | None = None, compile: Compile = "auto", restarts: None = None, binarize: Binarize | None = None,
    average: bool | None = None, missing: Missing = "error", checkpoint: str | Path | None = None, every: float | str = EVERY, callbacks: Sequence[Callback] = (),
    progress: bool = True,
) -> Fit: ...  # fmt: skip
@overload
def fit(
    pair: Model, data: Any = None, estimator: str | type[ELBO] | ELBO | None = None, *, guide: str | Callable[..., Any] | None = None,
    steps: int | None = None, epochs: int | None = None, max_steps: int | None = None, max_seconds: float | None = None, validation: Any = None,
    batch_size: int | None = None, optimizer: Any = ..., learning_rate: float | None = None, update: Any = None, seed: int | None = None,
    device: str = "auto", devices: int | None = None, compile: Compile = "auto", restarts: int, binarize: Binarize | None = None,
    average: bool | None = None, missing: Missing = "error", checkpoint: str | Path | None = None, every: float | str = EVERY, callbacks: Sequence[Callback] = (),
    progress: bool = True,
) -> Restarts: ...  # fmt: skip
@takes(binarize=Optional(BINARIZE), missing=MISSING, callbacks=Several(FUNCTION, 0))
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
    update: Any = None,
    seed: int | None = None,
    device: str = "auto",
    devices: int | None = None,
    compile: Compile = "auto",
    restarts: int | None = None,
    binarize: Binarize | None = None,
    average: bool | None = None,
    missing: Missing = "error",
    checkpoint: str | Path | None = None,
    every: float | str = EVERY,
    callbacks: Sequence[Callback] = (),
    progress: bool = True,
) -> Fit | Restarts:
    """Maximises the ELBO by stochastic gradient ascent: for a number of steps or epochs, or, if neither is given, until it has converged.

    The latter needs no settings: learning rates are found, the iterates are averaged, and the fit's `convergence` says how the training ended; see
    `vbayes.training.until_converged`. Ctrl-C and SIGTERM return the fit as far as it has come, unless the program handles SIGTERM itself.

    Args:
        pair: Model and guide; it is copied, never changed. A fit goes on from where it is, as a new fit. A model alone gets a guide by itself.
        data: A `Dataset`, a tensor or array of shape (N, ...), a tuple or mapping of those, or a table of pandas, polars, Arrow or xarray, whose columns go by their names to
            the model's arguments: names as codes (`Dataset.labels`), and those that it does not ask for not at all. Arrays on disk and torch's data sets and loaders are read while it trains.
        estimator: A name, a vbayes estimator, or any `pyro.infer.ELBO`; `AnalyticKL` if None, or `Enumerated` where a guide by a word leaves sites to be summed out. "auto" asks `vb.recommend` at the start, after a tenth and after
            half of the steps; the fit's `switches` say what it chose. Its choice depends on the clock.
        guide: For a model alone: a word (see `Pair`), or a guide; "auto" if None. Where `steps`, `epochs` and an estimator are left out too, "auto" trains a normal, and a flow
            if the draws of the normal can't be used, weighted or not; the better one is kept, and the fit's `tried` says what the draws of each were worth.
        steps: Optimiser steps.
        epochs: Passes over the data, in place of `steps`. Without either, a fit ends when a further phase would gain less than .01 nats (.001 more for each datum with latents of
            its own; .02 a datum where one network computes the latents of all), or when its budget is used up. With estimator="auto" it takes 1000 steps instead.
        max_steps, max_seconds: The budget of a fit without `steps` and `epochs`: 100 000 steps (trials and evaluations not counted) and 600 s if None. Within the
            budget, the numbers do not depend on the clock.
        validation: Data like `data` that are not trained on, for a guide that computes latents from data, such as a VAE's: their ELBO decides when to stop, and which
            parameters are kept.
        batch_size: M, rows in a minibatch; None takes all rows in each step, or what a `DataLoader` says.
        optimizer: With `steps` or `epochs`: a `torch.optim` class, or a `pyro.optim` object (a scheduler among them steps once an epoch).
        learning_rate: For a `torch.optim` class; None leaves its default. Without `steps` and `epochs` the first rate, found by trials if None.
        update: With `steps` or `epochs`, in place of an optimiser: `vb.NaturalGradient()`, with Adam at `learning_rate` for what is no normal's parameter; or
            `vb.BatchAndMatch()` or `vb.ScoreMatching()`, which take scores at draws and no estimator.
        seed: Of the draws and the order of the data; `vb.default_seed()` if None. Initial parameters belong to the pair.
        device: "cpu", "cuda", "cuda:1"; "auto" takes CUDA where there is one, and of several processes each the card that torchrun has numbered for it.
        devices: Processes that train this fit together, each on its share of each minibatch; see `vbayes.training.together`. None takes those that torchrun has started, or that are in
            the program's process group of torch; 1 trains in each of them by itself.
        compile: Turn pair, estimator and optimiser into one program: True, False (Pyro takes the steps, so that one can
            look on), or "auto": where the number of steps repays it. What can't be turned into one is trained by Pyro,
            after a warning that says why. The two draw different random numbers. Or the back end by name: "native" is machine code, on the CPU; "xla" wants
            jax (`pip install 'vbayes[xla]'`); "torch" interprets the program, or records it as a CUDA graph. Otherwise it is machine code on the CPU, XLA
            on a card and for programs that there is no machine code for, where jax is there for it and "auto" has 5000 steps to take, as its compiler is slow; else torch. From the same seed they follow the same
            minibatches and noise, and differ by rounding.
        restarts: R independent fits from R starts; they come back together, as `Restarts`. With `steps` or `epochs` in one loop, otherwise one after the other, until each has
            converged, with `max_seconds` for all of them; a guide by a word stays the one that it is. The first start is the
            pair's own; see `vbayes.pair.initial_values.another_start` for the others.
        binarize: Make grey data in [0, 1] black and white, for a Bernoulli likelihood: "threshold", "static" or "dynamic", anew in each
            epoch; see `Dataset.binarized`, whose data `Fit.load` wants for such a fit.
        missing: Of NaN, which also stands where a table has nothing: "error", or "mask", which leaves places that the model observes out of the likelihood. The fit's pair is then
            `pair.masked()`, which `Fit.load` wants as well.
        average: Whether the parameters become the mean of the last iterates, by Adam at a constant rate: of the later half of `steps` or `epochs`; without these, of the best window.
            None is no with the former, and yes without them. The fit's `average` has it.
        checkpoint: A file in which the fit is kept while it runs. Where it is there already, the fit goes on from it, to the last bit, whatever ended the process
            that wrote it; one that is finished comes back as it is, or goes on to more `steps` or `epochs`. The file is what `Fit.save` writes. It has to be of the
            same fit: pair, data, estimator, optimiser, seed and the like. What `guide=` finds before the first step is found again.
        every: Seconds between two writings, or a text such as "30s", "5min", "1000 steps"; less often where writing would take more than a tenth of the time. A process
            that is killed loses so much at most; a call of the program lasts some tenths of a second, and trials of a first rate some hundred steps.
        callbacks: Each is called with a `vb.TrainingState`, between two steps: some ten times a second, and after each step that Pyro takes; or at given steps, see `vb.Every`. One that returns True ends the fit, as Ctrl-C
            would: what was reached comes back. Where one raises an error, that has what was reached as its `fit`.
        progress: Show how far it is, with the ELBO per datum and its trend; in a log, by a line now and then.

    Returns:
        `Fit`, the trained copy of the pair with its history; or `Restarts`, several of them.

    Raises:
        BadInput: What was handed in does not fit; the message says what, and how to mend it.
        OutputUnwritable: The checkpoint can't be written; known before the first step.
        NonFinite: The ELBO or its gradient became NaN or infinite. The error's `fit` holds the history and the last
            finite parameters.
        ProcessLost: Of several processes another one has died, or is elsewhere in the program.

    Examples:
        >>> fit = vb.fit(pair, data)  # until it has converged
        >>> fit.convergence.reason
        >>> fit = vb.fit(pair, vb.data.digits(), epochs=50, batch_size=100, learning_rate=1e-3)
        >>> fit.plot()
    """
    automatic = isinstance(estimator, str) and estimator == "auto"
    method = AnalyticKL() if automatic or estimator is None else resolve(estimator)
    require_backend(compile)
    told = require_combination(
        steps=steps, epochs=epochs, automatic=automatic, restarts=restarts, average=average, checkpoint=checkpoint, max_steps=max_steps,
        max_seconds=max_seconds, validation=validation,
    )  # fmt: skip
    optimizer = updated(
        optimizer,
        update,
        told=told,
        estimator=estimator,
        batch_size=batch_size,
        learning_rate=learning_rate,
        average=average,
    )
    ranks = ranks_of(1 if steps == 0 or epochs == 0 else devices)
    if ranks is not None:
        refuse_together(
            ranks, automatic=automatic, restarts=restarts, average=bool(average and told), optimizer=optimizer
        )
        device = ranks.device(device)
    seed = rng.or_default(seed)
    batch_size = batch_size_of(data, batch_size)
    pair, data = pair_and_data(paired(pair, guide), data)
    pair = pair.masked() if missing == "mask" else pair
    dataset = _of(data, binarize, seed)
    if progress:
        say_left_out(pair, dataset)
    dataset = asked_of_disk(
        pair, dataset, batch_size, restarts=restarts, binarize=binarize, devices=devices if ranks else None, update=update if scores_alone(update) else None,
    )  # fmt: skip
    problem = Problem.of(pair, dataset, batch_size=batch_size, device=device)
    if automatic or (estimator is None and problem.pair.word):
        method = of_elbo(problem.pair, problem.first)
    check_suits(problem.pair, problem.first, method)  # one that can't work on this pair says so now
    require_parameters(problem.pair)
    method = with_memory(method, problem.pair, problem.first)
    # A pyro.infer.ELBO remembers the plates of the first model it meets: each fit has its own.
    fresh = Fit(
        problem.pair, problem.data, copy.copy(method), batch_size, optimizer, learning_rate, seed, Progress.start(seed), compile=compile,
        average=average,
    )  # fmt: skip
    check_update(fresh)
    autosave, kept, held_out = None, dict[str, Any](), None
    if validation is not None:
        held_out = Problem.of(
            problem.pair, _of(validation, binarize, seed, like=problem.data), device=str(problem.device)
        ).data
    if checkpoint is not None:
        budget = {} if told else {"max_steps": max_steps, "max_seconds": max_seconds}
        autosave = Autosave(checkpoint, every, identity(fresh, held_out, **budget))
    if ranks is not None:
        far = {"steps": steps, "epochs": epochs, "max_steps": max_steps, "max_seconds": max_seconds}
        fresh, kept = begin_together(fresh, ranks, autosave, held_out, **far)
    elif autosave is not None:
        fresh, kept = autosave.begin(fresh, finds=_of_that_guide)
    if not told:
        with problem.pair.scope():
            optimizer_for(problem.pair.leaves, optimizer, learning_rate)  # what it refuses, it refuses here too
        require_adam(optimizer)
        if kept.get("finished"):
            if autosave:
                autosave.beside.remove()
            return fresh
        options: dict[str, Any] = {
            "callbacks": callbacks,
            "progress": progress,
            "rate": learning_rate,
            "autosave": autosave,
        }
        if restarts is not None:
            options |= {"max_steps": max_steps, "validation": held_out}
            return fit_until_converged(fresh, restarts, max_seconds=max_seconds, **options)
        if ranks is not None:
            options |= {"max_steps": max_steps, "max_seconds": max_seconds, "validation": held_out}
            return until_converged_together(fresh, ranks, at=kept.get("schedule"), **options)
        if problem.pair.word == AUTO and estimator is None and held_out is None:
            return verb("climb")(fresh, max_steps=max_steps, max_seconds=max_seconds, kept=kept, **options)  # type: ignore[no-any-return]
        options["at"] = kept.get("schedule")
        return until_converged(fresh, max_steps=max_steps, max_seconds=max_seconds, validation=held_out, **options)
    count = count_steps(problem.data, batch_size, steps, epochs)
    if automatic:
        from ..laboratory.auto import fit_automatically

        return fit_automatically(fresh, count, callbacks=callbacks, progress=progress)
    if fresh.steps > count:
        raise BadInput(
            f"checkpoint={str(checkpoint)!r} holds {fresh.steps} steps, and {count} are asked for. Wanted: at least as many, or another file."
        )
    if average and count:
        return train_averaged(fresh, count, show=progress, callbacks=callbacks)
    if restarts is None:
        if kept.get("finished") and fresh.steps == count:
            return fresh
        left = count - fresh.steps
        if ranks is not None:
            return train_together(fresh, left, ranks, show=progress, callbacks=callbacks, autosave=autosave)
        return train(fresh, left, show=progress, callbacks=callbacks, autosave=autosave)
    return fit_restarts(fresh, restarts, count, show=progress, callbacks=callbacks)


def _of(data: Any, binarize: Binarize | None, seed: int, like: Dataset | None = None) -> Dataset:
    made = Dataset.of(data, like=like)
    return made if binarize is None or made.stored else made.binarized(binarize, seed=seed)


def _of_that_guide(fit: Fit, told: dict[str, Any]) -> Fit:
    """A fit with the guide that a file is of, where "auto" has come to a flow."""
    if told.get("guide") == "flow":
        fit = verb("bent")(fit)
    return dataclasses.replace(fit, tried=tuple(told.get("tried", ())))
