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
from ..estimators.check_value import check_value
from ..estimators.remembering import with_memory
from ..estimators.suits import check_suits, of_elbo
from ..guides import AUTO
from ..pair.check import require_parameters, say_left_out
from ..pair.groups import warn_of_groups
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


# For type checkers and editors: the type of the result depends on `restarts` only.
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
    """Maximises the ELBO by stochastic gradient ascent, for a number of steps or epochs or, if neither is given, until convergence.

    Training until convergence needs no settings: learning rates are found automatically, iterates are averaged, and the fit's `convergence` says how training ended; see
    `vbayes.training.until_converged`. Ctrl-C stops training and returns the fit so far. SIGTERM ends the process, as in any Python program; with `checkpoint`, once the fit
    so far is saved, with status 143. A handler of your own for SIGTERM is left in place.

    Args:
        pair: Model and guide, which are copied and never changed; or a fit, which the new fit continues from; or a model alone, for which a guide is made.
        data: A `Dataset`, a tensor or array of shape (N, ...), a tuple or mapping of those, or a table from pandas, polars, Arrow or xarray. Table columns are passed to the model's
            arguments of the same name, columns of names as integer codes (`Dataset.labels`); other columns are ignored. Arrays on disk, torch data sets and data loaders are read during training.
        estimator: A name, a vbayes estimator, or any `pyro.infer.ELBO`; if None, `AnalyticKL`, or `Enumerated` if a guide chosen by name leaves sites to be summed out. "auto" calls `vb.recommend` at the start and after a tenth and
            half of the steps; the fit's `switches` record its choices, which depend on timings.
        guide: For a model alone: the name of a guide (see `Pair`), or a guide; "auto" if None. If `steps`, `epochs` and `estimator` are not given either, "auto" trains a normal, and then a flow
            if the draws of the normal can't be used, weighted or not; the better one is kept, and the fit's `tried` says how good the draws of each were.
        steps: Number of optimiser steps.
        epochs: Number of passes over the data, instead of `steps`. Without either, training ends when a further phase would gain less than 0.01 nats (plus 0.001 for each datum with its own
            latents; 0.02 per datum if one network computes the latents of all), or when the budget is used up; but with estimator="auto" after 1000 steps.
        max_steps, max_seconds: Budget of a fit without `steps` and `epochs`; 100 000 steps (not counting trials and evaluations) and 600 s if None. Within the
            budget, results do not depend on the clock.
        validation: Held-out data like `data`, for a guide that computes latents from data, such as that of a VAE; their ELBO decides when to stop, and which
            parameters are kept.
        batch_size: M, the number of rows in a minibatch; if None, all rows in each step, or the batch size of a `DataLoader`.
        optimizer: With `steps` or `epochs`: a `torch.optim` class, or a `pyro.optim` object (including schedulers, which step once per epoch).
        learning_rate: Learning rate for a `torch.optim` class; its default if None. Without `steps` and `epochs`, the initial rate, found by trials if None.
        update: With `steps` or `epochs`, instead of an optimiser: `vb.NaturalGradient()`, with Adam at `learning_rate` for all parameters that don't belong to a normal; or
            `vb.BatchAndMatch()` or `vb.ScoreMatching()`, which use scores at draws and no estimator.
        seed: Seed for the draws and the order of the data; `vb.default_seed()` if None. Initial parameters belong to the pair.
        device: "cpu", "cuda" or "cuda:1"; "auto" uses CUDA if available, and with several processes each one the GPU that torchrun assigned to it.
        devices: Number of processes that train this fit together, each on its share of each minibatch; see `vbayes.training.together`. None uses the processes that torchrun has started, or those in
            the program's torch process group; with 1, each of them trains by itself.
        compile: Whether to compile pair, estimator and optimiser into one program: True, False (Pyro takes the steps, which is easier
            to debug), or "auto", which compiles if there are enough steps to be worth it. What can't be compiled is trained by Pyro,
            after a warning that says why. Compiled and uncompiled training draw different random numbers. A back end can be given by name: "native" is machine code on the CPU; "xla" needs
            jax (`pip install 'vbayes[xla]'`); "torch" interprets the program, or records it as a CUDA graph. By default it is machine code on the CPU; XLA
            on a GPU, or if no machine code can be made, provided that jax supports the device and, for "auto", there are at least 5000 steps, as its compiler is slow; otherwise torch. From the same seed, all back ends use the same
            minibatches and noise, and differ only by rounding.
        restarts: R, the number of independent fits from different starts, returned together as `Restarts`. With `steps` or `epochs` they run in one loop; otherwise one after the other, until each has
            converged, with `max_seconds` for all of them together; "auto" then does not switch to another guide. The first start is the
            pair's own; see `vbayes.pair.initial_values.another_start` for the others.
        binarize: Make grey data in [0, 1] binary, for a Bernoulli likelihood: "threshold", "static", or "dynamic", which redraws them in each
            epoch; see `Dataset.binarized`, whose data `Fit.load` needs for such a fit.
        missing: How to treat NaN, including empty table cells: "error", or "mask", which leaves missing observations out of the likelihood. The fit's pair is then
            `pair.masked()`, which `Fit.load` needs too.
        average: Whether the parameters become the mean of the last iterates of Adam at a constant rate: of the second half of `steps` or `epochs`, or without these, of the best window.
            None means False with `steps` or `epochs`, and True without. Stored as the fit's `average`.
        checkpoint: File to which the fit is saved while it runs. If the file exists, the fit continues from it, with exactly the same results, however the earlier process
            ended; a finished fit is returned as it is, or continued to more `steps` or `epochs`. The file has the format of `Fit.save`, and must belong to the
            same fit: pair, data, estimator, optimiser, seed and so on. The search of `guide=` before the first step is repeated.
        every: Interval between saves, in seconds, or as text such as "30s", "5min" or "1000 steps"; longer if saving would take more than a tenth of the time. A killed
            process loses at most that much work, plus one call of the program (some tenths of a second) or the trials of an initial rate (some hundred steps).
        callbacks: Functions called with a `vb.TrainingState` between steps: about ten times a second, and after each step that Pyro takes; or at given steps, see `vb.Every`. One that returns True stops training, like Ctrl-C,
            and the fit so far is returned. If one raises an error, the error's `fit` has the fit so far.
        progress: Whether to show progress, with the ELBO per datum and its trend; in a log file, as an occasional line.

    Returns:
        A `Fit`, which holds the trained copy of the pair and its history; or `Restarts`, which holds several.

    Raises:
        BadInput: An argument is not valid; the message says which, and how to fix it.
        OutputUnwritable: The checkpoint can't be written; raised before the first step.
        NonFinite: The ELBO or its gradient became NaN or infinite. The error's `fit` holds the history and the last
            finite parameters.
        ProcessLost: In distributed training, another process has died or stopped responding.

    Warns if the value of an estimator class of your own is not on average the bound that it names; see `vbayes.estimators.check_value`.

    Examples:
        >>> fit = vb.fit(pair, data)  # until convergence
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
    warn_of_groups(problem.pair, problem.data)
    if automatic or (estimator is None and problem.pair.word):
        method = of_elbo(problem.pair, problem.first)
    check_suits(problem.pair, problem.first, method)  # raises an error if it can't be used with this pair
    require_parameters(problem.pair)
    check_value(problem.pair, problem.first, method)
    method = with_memory(method, problem.pair, problem.first)
    # A pyro.infer.ELBO remembers the plates of the first model that it runs, so each fit has its own.
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
            optimizer_for(problem.pair.leaves, optimizer, learning_rate)  # to raise its errors here
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
            f"checkpoint={str(checkpoint)!r} holds a fit of {fresh.steps} steps, but only {count} are requested. Wanted: at least as many, or another file."
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
    """A fit with the guide in the file, if "auto" had chosen a flow."""
    if told.get("guide") == "flow":
        fit = verb("bent")(fit)
    return dataclasses.replace(fit, tried=tuple(told.get("tried", ())))
