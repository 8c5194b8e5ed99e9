"""What the commands do: from names to a finished run folder."""

from __future__ import annotations

import importlib
import inspect
import math
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from rich.console import Console

from ..data import DATASETS
from ..data.dataset import Binarize, Dataset
from ..errors import BadInput, NonFinite, UnknownName, Unsuitable
from ..estimators import resolve
from ..export.arviz import to_netcdf
from ..export.to_arviz import to_arviz
from ..laboratory import compare as laboratory
from ..laboratory import recommend as recommending
from ..laboratory.comparison import Comparison
from ..laboratory.recommendation import Recommendation
from ..pair.device import choose_device
from ..pair.pair import Pair
from ..pairs import PAIRS, Recipe
from ..runs.folder import default_folder, environment, save_figure, unfinished
from ..runs.json_files import write_json
from ..runs.report import report
from ..training import fit as training
from ..training.result import Fit

ROWS = 100  # of the data, whose posterior a run folder keeps
DRAWS = 500
PICTURES = 16


@dataclass(frozen=True)
class Job:
    """A pair, its data, and how to train it: what the names of a command stand for."""

    pair: Pair
    data: Dataset
    recipe: Recipe

    @property
    def training(self) -> dict[str, Any]:
        """Keyword arguments for `fit` and `compare`."""
        return {name: getattr(self.recipe, name) for name in ("epochs", "batch_size", "learning_rate")}


def find(pair: str, data: str | None, *, binarize: Binarize | None = None, **options: Any) -> Job:
    """The pair, data and options that names stand for.

    Args:
        pair: A built-in pair or `package.module:function`.
        data: A data set; None for the pair's own.
        binarize: How to make grey pictures black and white; as they are if None.
        options: Of `Recipe`, to replace its own where not None.

    Raises:
        UnknownName: No such pair or data set.
        BadInput: `package.module:function` can't be imported or makes no pair.
    """
    recipe = _imported(pair) if ":" in pair else PAIRS.get(pair)
    if recipe is None:
        raise UnknownName("pair", pair, PAIRS)
    data = recipe.data if data is None else data
    if data not in DATASETS:
        raise UnknownName("data set", data, DATASETS)
    dataset = _loaded(data, binarize)
    recipe = replace(recipe, **{k: v for k, v in options.items() if v is not None})
    if options.get("batch_size") is None and recipe.batch_size and recipe.batch_size > len(dataset):
        recipe = replace(recipe, batch_size=None)
    return Job(recipe.pair(dataset), dataset, recipe)


def _loaded(name: str, binarize: Binarize | None) -> Dataset:
    load = DATASETS[name]
    if binarize is None:
        return load()
    grey = load(binary=False) if "binary" in inspect.signature(load).parameters else load()
    return grey.binarized(binarize)


def _imported(path: str) -> Recipe:
    module, _, name = path.partition(":")
    sys.path.insert(0, "")
    try:
        build = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError, TypeError, ValueError, SyntaxError) as error:
        raise BadInput(f"Can't import {name!r} from {module!r}: {error}. Wanted: package.module:function.") from error
    finally:
        sys.path.remove("")
    if isinstance(build, Pair):
        return Recipe(lambda: build)
    if not callable(build):
        raise BadInput(f"{path} is a {type(build).__name__}. Wanted: a vb.Pair, or a function that returns one.")
    return Recipe(_makes_a_pair(path, build))


def _makes_a_pair(path: str, build: Callable[..., Any]) -> Callable[..., Pair]:
    def checked(**offers: Any) -> Pair:
        try:
            made = build(**offers)
        except TypeError as error:
            raise BadInput(
                f"{path}: {error}. It may take x=, features=, rows= and output=, and nothing else without a default."
            ) from error
        if not isinstance(made, Pair):
            raise BadInput(f"{path} returned a {type(made).__name__}. Wanted: a vb.Pair(model, guide).")
        return made

    checked.__signature__ = inspect.signature(build)  # type: ignore[attr-defined]
    return checked


def compare(
    pair: str,
    data: str | None,
    estimators: list[str] | None,
    how: dict[str, Any],
    *,
    seed: int,
    device: str,
    out: Path | None,
    console: Console,
    **options: Any,
) -> tuple[Comparison, Path]:
    """`vbayes compare`: the result and its run folder. `how` are options of `vb.compare` that no training has."""
    with _run("compare", pair, data, seed, device, out, console, options) as (job, folder, config):
        methods = None if estimators is None else [resolve(name) for name in estimators]
        result = laboratory.compare(job.pair, job.data, methods, **how, seed=seed, device=device, **job.training)
        config |= {"estimators": list(result.estimators), "replicas": result.replicas, "oracle": result.oracle}
        result.save(folder / "comparison.json")
        save_figure(result.plot(), folder / "comparison.png")
        assert result.fit is not None
        _keep(result.fit, job, folder, seed)
    return result, config["folder"]


def recommend(
    pair: str, data: str | None, batch_size: int | None, *, budget: float, seed: int, device: str, console: Console
) -> Recommendation:
    """`vbayes recommend`."""
    job = find(pair, data, batch_size=batch_size)
    console.print(f"[b]{job.pair.name}[/b] on {job.data.name} of {len(job.data):,} rows")
    return recommending.recommend(
        job.pair, job.data, batch_size=job.training["batch_size"], budget=budget, seed=seed, device=device
    )


def train(
    pair: str,
    data: str | None,
    estimator: str | None,
    length: dict[str, Any],
    *,
    seed: int,
    device: str,
    out: Path | None,
    console: Console,
    **options: Any,
) -> tuple[Fit, Path]:
    """`vbayes train`: the fit and its run folder. `length` are options of `vb.fit` that say how far to go."""
    failure: NonFinite | None = None
    with _run("train", pair, data, seed, device, out, console, options) as (job, folder, config):
        method = estimator if estimator == "auto" else resolve(estimator or "analytic_kl")
        how = job.training | length
        if length["steps"] is None and length["epochs"] is None and estimator != "auto":
            how["learning_rate"] = options["learning_rate"]  # the pair's own goes with its own number of epochs
        elif estimator == "auto" and length["steps"] is None and length["epochs"] is None:
            how["epochs"] = job.training["epochs"]
        config |= {"estimator": repr(method), "epochs": how["epochs"], "learning_rate": how["learning_rate"]}
        try:
            fit = training.fit(job.pair, job.data, method, seed=seed, device=device, **how)
        except NonFinite as error:
            assert error.fit is not None
            failure, fit = error, error.fit
        config |= {"steps": fit.steps, "interrupted": fit.interrupted, "learning_rate": fit.learning_rate}
        if fit.convergence:
            config |= {"converged": fit.convergence.converged, "convergence": fit.convergence.reason}
            console.print(f"Convergence: {fit.convergence.reason}")
        # Draws from parameters that were about to break would mean nothing.
        _keep(fit, job, folder, seed, draws=0 if failure else DRAWS)
        if not failure:
            _diagnose(fit, folder, seed)
    if failure:
        failure.args = (f"{failure.args[0]}\nKept in {config['folder']}.",)
        raise failure
    return fit, config["folder"]


@contextmanager
def _run(
    command: str,
    pair: str,
    data: str | None,
    seed: int,
    device: str,
    out: Path | None,
    console: Console,
    options: dict[str, Any],
) -> Iterator[tuple[Job, Path, dict[str, Any]]]:
    """A job, an unfinished folder for it, and its configuration, which the caller completes."""
    job = find(pair, data, **options)
    final = out or default_folder(command, job.pair.name)
    where = str(choose_device(device))
    config: dict[str, Any] = {"command": command, "pair": pair, "data": job.data.name, **job.training}
    config |= {"optimizer": "Adam", "binarize": options.get("binarize"), "seed": seed, "device": where}
    console.print(f"[b]{job.pair.name}[/b] on {job.data.name} of {len(job.data):,} rows, device {where}")
    with unfinished(final) as folder:
        yield job, folder, config
        write_json(folder / "config.json", config)
        write_json(folder / "environment.json", environment(device=where, seed=seed))
        report(folder)
    config["folder"] = final


def _keep(fit: Fit, job: Job, folder: Path, seed: int, *, draws: int = DRAWS) -> None:
    """What a fit leaves in its run folder."""
    fit.history.to_csv(folder / "history.csv", index=False)
    fit.save(folder / "fit.safetensors")
    if fit.steps:
        save_figure(fit.plot().figure, folder / "training.png")
    if draws:
        posterior = to_arviz(fit, fit.data.rows(slice(0, ROWS)), draws=draws, seed=seed)
        to_netcdf(posterior, folder / "posterior.nc")
        if job.data.image:
            save_figure(_reconstructions(posterior, job.data), folder / "reconstructions.png")


def _diagnose(fit: Fit, folder: Path, seed: int) -> None:
    """Whether the fit is to be believed: in words for its page, and as a picture. A pair without a posterior has none."""
    with suppress(Unsuitable):
        found = fit.diagnose(seed=seed)
        numbers = {name: getattr(found, name) for name in ("k_hat", "k_hat_se", "effective", "elbo", "log_evidence")}
        kept = {name: value if math.isfinite(value) else str(value) for name, value in numbers.items()}
        words = {"verdict": found.verdict(), "trust": found.trust, "converged": found.converged, "draws": found.draws}
        write_json(folder / "diagnosis.json", words | kept)
        save_figure(found.plot(), folder / "diagnosis.png")


def _reconstructions(draws: Any, data: Dataset) -> Any:
    """Some data above, the mean of their posterior predictive below."""
    from matplotlib import pyplot

    from ..plots import images

    (name, *_) = draws["observed_data"].data_vars
    given = draws["observed_data"][name].values[:PICTURES]
    made = draws["posterior_predictive"][name].values[0, :, :PICTURES].mean(0)
    figure, axes = pyplot.subplots(2, 1, figsize=(9, 1.9), layout="constrained")
    for ax, title, rows in zip(axes, ("data", "reconstructed: the mean of p(x̂|x)"), (given, made), strict=True):
        assert data.image
        pictures = rows.reshape(-1, *data.image)
        images(1 - pictures if data.photograph else pictures, ax, columns=PICTURES)
        ax.set_title(title, loc="left", fontsize=10)
    return figure
