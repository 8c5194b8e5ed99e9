"""The work of the commands: from names to a finished run folder."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyro
from rich.console import Console
from rich.markup import escape
from torch.nn import Module

from ..data import DATASETS, read_table
from ..data.dataset import MISSING, Binarize, Dataset, Missing
from ..errors import BadData, BadInput, UnknownName
from ..estimators import resolve
from ..guides import GUIDES
from ..laboratory import compare as laboratory
from ..laboratory import recommend as recommending
from ..laboratory.comparison import Comparison
from ..laboratory.recommendation import Recommendation
from ..pair.device import choose_device
from ..pair.pair import Pair
from ..pairs import PAIRS, Recipe
from ..runs.folder import default_folder
from ..runs.run_folder import run_folder
from .code import imported, require_name_in
from .job import Job, is_file
from .keep import FIT, configuration, publish, rest, says_how
from .options import names


def find(
    pair: str,
    data: str | None,
    *,
    binarize: Binarize | None = None,
    missing: Missing | None = None,
    categorical: str | None = None,
    settings: Mapping[str, str] | None = None,
    guide: str | None = None,
    **options: Any,
) -> Job:
    """Finds the pair, data and options that the names stand for.

    Args:
        pair: A built-in pair, or `package.module:name` or `file.py:name` of a pair, of a function that makes one, or of a model.
        data: A data set, or a file with a table; the pair's default if None.
        binarize: How to make grey pictures binary; unchanged if None.
        missing: How to treat missing values, as for `vb.fit`; an error if None.
        categorical: Columns of a file that name groups although they look like numbers, as typed.
        settings: Settings of the pair, as text.
        guide: Name of a guide to use instead of the pair's own.
        options: Options of `Recipe`, which replace its own unless None.

    Raises:
        UnknownName: There is no such pair, data set or guide.
        UnknownKeyword: The pair has no such setting.
        BadInput: `package.module:function` can't be imported or makes no pair, or a setting has the wrong type.
    """
    MISSING("missing", missing or "error")
    usual = _imported(pair) if ":" in pair else PAIRS.get(pair)
    if usual is None:
        require_name_in(pair)
        raise UnknownName("pair", pair, PAIRS)
    if guide is not None and guide not in GUIDES:
        raise UnknownName("guide", guide, GUIDES)
    dataset, features = _loaded(usual, usual.data if data is None else data, binarize, categorical)
    recipe = replace(usual, **{k: v for k, v in options.items() if v is not None})
    if options.get("batch_size") is None and recipe.batch_size and recipe.batch_size > len(dataset):
        recipe = replace(recipe, batch_size=None)
    given = recipe.typed(pair, dataset, settings or {})
    known = recipe.settings(dataset)
    made = recipe.pair(dataset, **given)
    if ":" not in pair:
        _require_numbers(pair, made, dataset)
    asked = {
        "data": data,
        "binarize": binarize,
        "missing": missing,
        "categorical": categorical,
        "guide": guide,
        **options,
    }
    before = {
        "data": usual.data,
        "guide": made.word or "its own",
        **{name: getattr(usual, name, None) for name in options},
    }
    changed = {name: (known[name], value) for name, value in given.items()}
    changed |= {name: (before.get(name), value) for name, value in asked.items() if value is not None}
    if guide is not None:
        made = Pair(made.model, guide, name=made.name)
    return Job(
        made.masked() if missing == "mask" else made,
        dataset,
        recipe,
        known | given,
        {name: both for name, both in changed.items() if both[0] != both[1]},
        features,
    )


def _require_numbers(name: str, pair: Pair, data: Dataset) -> None:
    """Raises `BadData` if codes of names would be passed to a built-in pair, all of which observe numbers."""
    if names := [column for column in data.asked(pair.model) if column in data.labels]:
        raise BadData(
            f"Column {names[0]!r} of {data.name!r} holds names, such as {data.labels[names[0]][0]!r}, but pair {name!r} takes numbers. Wanted: numbers in that column; or, for features, a table "
            f"without a column {names[0]!r}, all of whose numeric columns are features."
        )


def _loaded(
    recipe: Recipe, name: str, binarize: Binarize | None, categorical: str | None
) -> tuple[Dataset, tuple[str, ...]]:
    if is_file(name):
        table = read_table(name, categorical=names(categorical or ""))
        made = recipe.fed(table, features := recipe.features(table))
        return (made if binarize is None else made.binarized(binarize)), features
    if name not in DATASETS:
        raise UnknownName("data set", name, DATASETS)
    if categorical:
        raise BadInput(
            f"--categorical {categorical} for the data set {name!r}, which is not a table in a file. Wanted: --data FILE, such as my.csv, with such a column."
        )
    load = DATASETS[name]
    if binarize is None:
        return load(), ()
    grey = load(binary=False) if "binary" in inspect.signature(load).parameters else load()
    return grey.binarized(binarize), ()


def _imported(path: str) -> Recipe:
    build = imported(path)
    if isinstance(build, Pair):
        return Recipe(lambda: build)
    if _is_model(build):  # takes all rows at a time, like `vb.fit(model, data)`
        return Recipe(lambda: Pair(build), batch_size=None)
    if not callable(build):
        raise BadInput(
            f"{path} is a {type(build).__name__}. Wanted: a vb.Pair, a model, or a function that returns a pair."
        )
    return Recipe(_makes_a_pair(path, build))


def _is_model(build: Any) -> bool:
    """Whether `build` is a model, for which a guide is made: a module, or a function that calls `pyro.sample` itself, unlike a function that returns a pair."""
    own = inspect.unwrap(build) if callable(build) else None
    code = getattr(own, "__code__", None)
    names = set[str]() if code is None else {*code.co_names, *code.co_freevars}
    if "sample" not in names or "Pair" in names:
        return isinstance(build, Module)
    return "pyro" in names or getattr(own, "__globals__", {}).get("sample") is pyro.sample


def _makes_a_pair(path: str, build: Callable[..., Any]) -> Callable[..., Pair]:
    def checked(**offers: Any) -> Pair:
        try:
            made = build(**offers)
        except TypeError as error:
            raise BadInput(
                f"{path}: {error}. The function may take x=, features=, rows= and output=, which come from the data, and other arguments set by --set NAME=VALUE. Wanted: a model that calls pyro.sample itself, or a function that returns a pair, such as def make_pair(): return vb.Pair(model)."
            ) from error
        if not isinstance(made, Pair):
            raise BadInput(
                f"{path} returned a {type(made).__name__}. Wanted: a vb.Pair(model, guide), or a model that calls pyro.sample itself."
            )
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
    """`vbayes compare`: returns the result and its run folder. `how` are options of `vb.compare` that are not options of training."""
    job = find(pair, data, **options)
    final, where = out or default_folder("compare", job.pair.name), str(choose_device(device))
    config = configuration("compare", pair, job, options, seed=seed, device=where, console=console)
    methods = None if estimators is None else [resolve(name) for name in estimators]
    with run_folder(final) as place:
        result = laboratory.compare(job.pair, job.data, methods, **how, seed=seed, device=device, **job.training)
        config |= {"estimators": list(result.estimators), "replicas": result.replicas, "oracle": result.oracle}
        assert result.fit is not None
        result.save(place.path / "comparison.json")
        result.fit.save(place.path / FIT)
        asked = {"command": "compare", "pair": pair, "data": data, "seed": seed, **options}
        publish(place, result.fit, config, {"arguments": asked, "left": "rest"})
        with says_how(place.final, pair):
            rest(result.fit, job, place.final, seed, comparison=result)
    return result, final


def recommend(
    pair: str, data: str | None, *, budget: float, seed: int, device: str, console: Console, **options: Any
) -> Recommendation:
    """`vbayes recommend`; `options` as for `find`."""
    job = find(pair, data, **options)
    console.print(f"[b]{escape(job.pair.name)}[/b] on {escape(job.data.name)} of {len(job.data):,} rows")
    return recommending.recommend(
        job.pair, job.data, batch_size=job.training["batch_size"], budget=budget, seed=seed, device=device
    )
