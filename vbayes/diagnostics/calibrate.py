"""Simulation-based calibration: fits to simulated data, and where the true values lie among the draws."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from pyro.distributions import ImproperUniform
from pyro.infer import ELBO
from torch import Tensor

from .. import rng
from ..arguments.takes import takes
from ..data.dataset import Batch, Dataset
from ..drawing.simulation import Simulated, simulate
from ..errors import BadInput, NonFinite, Unsuitable
from ..pair.pair import Pair
from ..pair.paired import Model, paired
from ..pair.problem import Problem, pair_and_data
from ..pair.sites import base, factors, latents, observed
from ..progress import bar
from ..training.fit import fit
from ..training.fit_run import Progress
from ..training.minibatches import count_steps
from ..training.result import Fit
from ..training.several import fit_each
from ..validation import validation
from .calibration import Calibration
from .ranks import ranks_of

Made = list[tuple[Dataset, dict[str, Any]]]
"""Data sets, and the true latents of each."""
MEND = "Calibrate a model that draws its data"


@takes()
def calibrate(
    pair: Model,
    data_like: Any = None,
    *,
    simulations: int = 200,
    draws: int = 199,
    estimator: str | type[ELBO] | ELBO | None = None,
    guide: str | Callable[..., Any] | None = None,
    steps: int | None = None,
    epochs: int | None = None,
    batch_size: int | None = None,
    optimizer: Any = torch.optim.Adam,
    learning_rate: float | None = None,
    seed: int | None = None,
    device: str = "auto",
    compile: Any = "auto",
    progress: bool = True,
) -> Calibration:
    """Runs simulation-based calibration: latents are drawn from the prior, data from the model, and each data set is fitted as `vb.fit` would.

    This tests the whole procedure (guide, estimator and schedule): is its q biased, too narrow or too wide, averaged over the data that the prior generates? For *your* data,
    use `vb.diagnose` on the fit. All fits start from the pair's current parameters; with `steps` or `epochs` they run in parallel in one compiled loop where possible. A guide
    chosen by name searches for a new start in each data set, which takes about a second each.

    Args:
        pair: Model and guide, or a model alone, for which a guide is made; a fit brings its data.
        data_like: As for `fit`. For observed columns only shapes and types matter; the other columns are covariates and are kept.
        simulations: R, the number of data sets. The standard error of a bias is 1/√R standard deviations of q, that of a ratio of standard deviations 1/√(2R).
        draws: S, the number of draws from each q; 199 give 200 possible ranks, which divide evenly into bins.
        steps, epochs: Length of each fit. If neither is given, each runs until convergence, as in `fit`, one after the other, which takes R times as long.
        estimator, guide, batch_size, optimizer, learning_rate, device, compile: As for `fit`.
        seed: Seed for all random numbers; `vb.default_seed()` if None.
        progress: Whether to show a progress bar.

    Raises:
        BadInput: Fewer than two simulations or draws, or any input that `fit` rejects.
        Unsuitable: The prior is improper, so it can't be drawn from; or data can't be simulated: the model has a factor, no latents, data that are not arguments, or an observed
            site whose draws differ in shape from its data.
        NonFinite: All fits became NaN or infinite.

    References:
        Yao, Vehtari, Simpson & Gelman 2018, Yes, but did it work? Evaluating variational inference, arXiv:1802.02538, section 3 (VSBC).
        Talts, Betancourt, Simpson, Vehtari & Gelman 2018, Validating Bayesian inference algorithms with simulation-based calibration, arXiv:1804.06788.

    Examples:
        >>> found = vb.calibrate(pair, data, steps=2000, learning_rate=0.02)
        >>> print(found.verdict())
        >>> found.plot()
    """
    if isinstance(estimator, str) and estimator == "auto":
        raise BadInput(
            "estimator='auto' may choose differently in every fit, as it depends on timings. Wanted: one estimator, such as the one that vb.recommend suggests."
        )
    seed, (pair, data) = rng.or_default(seed), pair_and_data(paired(pair, guide), data_like)
    _require_proper(Problem.of(pair, data, batch_size=batch_size, device=device))
    options = {
        "estimator": estimator, "batch_size": batch_size, "optimizer": optimizer, "learning_rate": learning_rate,
        "device": device, "compile": compile, "progress": False,
    }  # fmt: skip
    first = fit(pair, data, steps=0, seed=seed, **options)
    made = _simulations(first, simulations, rng.child(seed, 0), show=progress)
    seeds = rng.children(rng.child(seed, 1), simulations)
    if steps is None and epochs is None:
        trained = _until_converged(first, made, seeds, options, show=progress)
    else:
        trained = _so_far(first, made, seeds, count_steps(first.data, batch_size, steps, epochs), show=progress)
    kept = [(fitted, truth) for fitted, (_, truth) in zip(trained, made, strict=False) if fitted is not None]
    if not kept:
        raise NonFinite(
            f"None of {simulations} fits of pair {first.pair.name!r} stayed finite. Common fixes: a smaller learning_rate, a narrower prior.",
            step=1, sites=(), fit=None,
        )  # fmt: skip
    ranks = ranks_of(
        [fitted.pair for fitted, _ in kept],
        [Batch(fitted.data.batch(fitted.pair.model).args) for fitted, _ in kept],
        [truth for _, truth in kept],
        draws,
        rng.children(rng.child(seed, 2), len(kept)),
    )
    taken = int(np.median([fitted.steps for fitted, _ in kept]))
    return Calibration(ranks, draws, taken, simulations - len(kept), first.pair.name, first.data.name, first.guide)


def _so_far(first: Fit, made: Made, seeds: Sequence[int], steps: int, *, show: bool) -> list[Fit | None]:
    """Fits with a given number of steps, in parallel where possible; None for those that became NaN or infinite."""
    fits = []
    with bar("starts", len(made), show=show) as advance:
        for (dataset, _), own in zip(made, seeds, strict=True):
            start, estimating = _start(first.pair, dataset), copy.copy(first.estimator)
            begun = replace(first, pair=start, data=dataset, seed=own, progress=Progress.start(own))
            fits.append(replace(begun, estimator=estimating))
            advance(len(fits), str)
    trained = fit_each(fits, steps, show=show)
    finished = trained.to_dataframe().finished
    return [fitted if whole else None for fitted, whole in zip(trained.fits, finished, strict=True)]


def _until_converged(
    first: Fit, made: Made, seeds: Sequence[int], options: Mapping[str, Any], *, show: bool
) -> list[Fit | None]:
    """Fits until convergence, one after the other; None for those that became NaN or infinite."""
    found: list[Fit | None] = []
    with bar("fits", len(made), show=show) as advance:
        for (dataset, _), own in zip(made, seeds, strict=True):
            try:
                found.append(fit(_start(first.pair, dataset), dataset, seed=own, devices=1, **options))
            except NonFinite:
                found.append(None)
            advance(len(found), str)
    return found


def _start(pair: Pair, data: Dataset) -> Pair:
    """The start of the fit of a data set: the pair's parameters; a guide chosen by name searches again."""
    if pair.word is None:
        return pair.copy()
    fresh = Pair(pair.model, pair.word, name=pair.name, exact=pair.exact)
    fresh.initialise(data.batch(pair.model))
    guided = type(pair.guide).__name__
    return fresh.load({name: value for name, value in pair.parameters.items() if not name.startswith(f"{guided}.")})


def _require_proper(problem: Problem) -> None:
    """Raises `Unsuitable` if a latent's prior can't be drawn from."""
    with problem.pair.look(), torch.no_grad(), validation(False):
        _, p = problem.pair.run(problem.rows)
    for site in latents(p):
        fn: Any = site["fn"]
        if isinstance(base(fn), ImproperUniform) or getattr(fn, "_mask", None) is False:
            raise Unsuitable(
                f"The prior of site {site['name']!r} is improper: it can't be drawn from, so no data with known true values can be simulated. Wanted: a proper prior, "
                "such as dist.Normal(0, 10), which says what data to expect."
            )


def _simulations(first: Fit, count: int, seed: int, *, show: bool) -> Made:
    """Simulated data sets of a fit's kind, and their true latents."""
    pair, data = first.pair, first.data
    batch = Batch(data.batch(pair.model).args)
    with pair.look(), torch.no_grad(), validation(False):
        q, p = pair.run(batch)
    if not observed(p) and not factors(p):
        raise Unsuitable(
            f"Pair {pair.name!r} observes nothing, so there are no data to simulate. Wanted: a model with an observed site."
        )
    wanted = [site["name"] for site in latents(p) if site["name"] in q]
    if not wanted:
        raise Unsuitable(
            f"Pair {pair.name!r} has no latents, so there is nothing to calibrate. Wanted: a model with latents."
        )
    columns = {
        place: name for place, arg in enumerate(batch.args) for name, values in data.tensors.items() if values is arg
    }
    found: Made = []
    with bar("simulated data", count, show=show) as advance:
        for number, own in enumerate(rng.children(seed, count)):
            made = simulate(pair, batch, own, MEND)
            found.append(
                (
                    _dataset(data, batch, made, columns, number),
                    {name: made.made.nodes[name]["value"] for name in wanted},
                )
            )
            advance(number + 1, str)
    return found


def _dataset(data: Dataset, like: Batch, made: Simulated, columns: Mapping[int, str], number: int) -> Dataset:
    """A data set from simulated arguments."""
    tensors = dict(data.tensors)
    for place, (values, before) in enumerate(zip(made.batch.args, like.args, strict=True)):
        if values is before or not isinstance(values, Tensor):
            continue
        if values.shape != before.shape:
            raise Unsuitable(
                f"The model simulates data of shape {tuple(values.shape)} for column {columns.get(place, place)!r} of shape {tuple(before.shape)}: an observed site's "
                "distribution is broadcast against its data. Wanted: a distribution of the data's shape, such as one in pyro.plate('data', len(x))."
            )
        if not torch.isfinite(values).all():
            raise Unsuitable(
                f"Simulated data set {number} has values in column {columns[place]!r} that are not finite: the prior allows parameters for which the model overflows. "
                "Wanted: a narrower prior."
            )
        tensors[columns[place]] = values.to(before.dtype)
    return replace(data, tensors=tensors, chances=None)
