"""Predictions for new rows, and for groups that were not in the fit."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Literal, get_args

import pandas as pd
import pyro
import torch
from torch import Tensor
from torch.distributions import Categorical

from .. import rng
from ..arguments import kind as arguments
from ..arguments.choice import Choice
from ..arguments.takes import takes
from ..arguments.whole import Whole
from ..data.columns_for import ROWS
from ..data.dataset import Batch, Dataset
from ..data.gaps import gaps_of
from ..drawing.predictive import Predictive, is_binary, made_sites
from ..drawing.relations import Relations
from ..drawing.summed import Summed
from ..errors import BadData, VBayesError, warn
from ..export.labels import dims_of
from ..export.names import PROBABILITY
from ..pair.explained import FAILURES
from ..pair.groups import warn_of_new_names
from ..pair.indexing import picked, require_one_name
from ..pair.missing import is_without_gaps
from ..pair.pair import Pair
from ..pair.paired import Trained, is_trained
from ..pair.problem import Problem
from ..pair.sites import base, latents, observed, plates, summed_out
from ..staging.many import many
from ..validation import validation
from .labelled import Labelled
from .new_groups import Groups, NewGroups, new_groups
from .new_rows import NewRows, called, new_rows, observed_sites
from .posterior import posterior
from .prediction import NOT_TO_BE_USED, PART, Prediction

Method = Literal["guide", "psis"]
Values = dict[str, Tensor]
GUIDE, CONDITIONAL, MODEL = (
    "drawn by the guide from the row",
    "drawn from its conditional given the row",
    "drawn from the model, given the latents that rows share",
)
CLASSES = 20  # columns of a table, at most, for the probabilities of categories without names
KNOWN, MADE = 1, 2  # purposes of the seeds derived from that of the prediction


@takes(draws=Whole(1, drawn=True), interval=PART, method=Choice(get_args(Method), "way to a posterior"))
def predict(
    fit: Trained,
    new_data: Any = None,
    *,
    draws: int = 1000,
    interval: float = 0.9,
    seed: int | None = None,
    method: Method = "guide",
) -> Prediction:
    """Draws from the posterior predictive distribution of every observed site, for new rows and new groups.

    Latents that all rows share, and those of groups in the fit, are drawn from the posterior. Latents of each row are drawn by the guide if it computes them from the
    row and the row has observed data; otherwise by the model, given all other latents. New groups are drawn by the model too, from their population.
    `pyro.deterministic` sites are predicted as well. For a binary outcome y, `y_probability` has draws of the probability of a 1, which `to_dataframe` and `plot` show. Sites that the model sums out are drawn from their conditional.

    The model is called as in the fit, with columns of the same names. Observed columns may be missing: they are left out, or None, as Pyro's `Predictive` calls
    a `model(x, y=None)`. If the model takes its size from such a column (`len(y)`), rows of the fit stand in for it, and it is an error if the predictions depend on them.

    Args:
        fit: From `vb.fit`.
        new_data: The rows, in any form that `vb.fit` takes; those of the fit if None. Columns of names get the codes of the fit, and unknown names are new groups.
            In a column of plain integers, codes from the number of groups on are new groups.
        draws: Number of draws, S.
        interval: Probability of the central intervals in the result.
        seed: Seed for all random numbers.
        method: "guide", or "psis": draws of the guide, resampled by Pareto-smoothed weights. `fit.predict` uses the one that `fit.diagnose()` recommends.

    Raises:
        BadData: The columns are not those of the model, or one that is needed is missing.
        BadPair: The model does not run on the new rows.
        Unsuitable: The model can't take new rows, or new groups.

    Examples:
        >>> found = fit.predict(new_rows, interval=0.8)
        >>> found.to_dataframe(), found.verdict()
    """
    if not is_trained(fit):
        arguments.refuse("fit", fit, wanted="a vb.Fit", mend="vb.fit(model, data).predict(new_data)")
    seed, problem = rng.or_default(seed), Problem.of(fit)
    pair, train, args = problem.pair, problem.data, problem.whole.args
    relations = Relations(pair, args, train.asked(pair.model), len(train))
    by = picked(pair, relations.args, relations.names) if train.labels else {}
    if new_data is None:
        seen = tuple(name for place, name in enumerate(relations.names) if relations.observes(place))
        new, rows, groups, how = train, NewRows(args, (), seen, len(train)), Groups(()), dict[str, str]()
    else:
        new = _in_memory(Dataset.of(new_data, like=train)).to(problem.device)
        _require_known(relations, train, new)
        warn_of_new_names(new, train, relations.names)
        require_one_name(pair, by, relations.names, train, replace(new, labels=train.labels))
        rows = new_rows(relations, train, new)
        groups = Groups(_new_groups(relations, rows, train, new))
        how = _of_rows(relations, replace(rows, args=groups.args(rows.args, 0)), groups, new)
    shared = [name for name in relations.values if name not in how]
    guided, summed = ([name for name, way in how.items() if way == one] for one in (GUIDE, CONDITIONAL))
    known: Values = {}
    if shared:
        known = _draws(relations, train, shared, draws, method, rng.child(seed, KNOWN))
    elif method == "psis" and guided and not rows.missing:  # each row has weights of its own
        known, guided = _weighted(pair, new, guided, draws, rng.child(seed, KNOWN)), []
    handed = replace(rows, args=groups.args(rows.args, 0))
    sites = observed_sites(relations, handed)
    first = {name: value[0] for name, value in known.items()}
    predictive = Predictive(pair, (), sites, guided, summed, groups.anew(0), groups.new)
    args = called(handed, relations, functools.partial(_look, predictive, first))
    with pair.look(), torch.no_grad(), validation(False):
        made = made_sites(replace(predictive, args=args).run(first), sites)
    wanted, parts = [site["name"] for site in made], list[Values]()
    chances = {
        name: name + PROBABILITY for name in map(_name, filter(is_binary, made)) if name + PROBABILITY not in wanted
    }
    for call in range(groups.calls):
        one = replace(predictive, args=groups.args(args, call), wanted=wanted, anew=groups.anew(call), chances=chances)
        with pair.scope(), torch.no_grad(), rng.seeded(rng.child(seed, MADE, call)), validation(False):
            parts.append(many(one, draws, problem.device, given=known))
    dims = {site["name"]: dims_of(site, train.dims.get(site["name"], ())) for site in made}
    dims |= {name: dims[site] for site, name in chances.items()}
    values = groups.merged(parts, dims, relations.row_plates)
    sizes = {frame.name: int(frame.size) for site in made for frame in plates(site)}
    labelled = Labelled(dims, sizes, relations.row_plates & sizes.keys(), relations.names, by, train, new)
    return Prediction(
        labelled.draws(values, groups), labelled.constant(rows), tuple(s for s in sites if s in values), pair.name, rows.count,
        interval, method if known else "none", {one.name: one.names for one in groups.own if one.names}, how, dict(new.labels), _classes(relations, train),
        _trust(fit), _index(new_data), {site: name for site, name in chances.items() if name in values},
    )  # fmt: skip


def _name(site: Any) -> str:
    return str(site["name"])


def _index(new_data: Any) -> pd.Index | None:
    """The index of a table of pandas, if it does more than count the rows."""
    if not isinstance(new_data, pd.DataFrame) or new_data.index.equals(pd.RangeIndex(len(new_data))):
        return None
    return new_data.index


def _trust(fit: Trained) -> str:
    """What the fit's diagnosis says about its draws; empty if there is no diagnosis yet. Warns if the draws should not be used."""
    if (found := getattr(fit, "diagnosis", None)) is None:
        return ""
    said = str(found.short())
    if said.startswith("bad"):
        warn(f"Pair {fit.pair.name!r}: {NOT_TO_BE_USED}")
    return said


def _classes(relations: Relations, train: Dataset) -> dict[str, tuple[str, ...]]:
    """Site → the names that its values represent: if it is observed at a column of names, those; of other categorical sites, unless there are many, the codes."""
    columns = {name: value for name, value in zip(relations.names, relations.args, strict=True) if name in train.labels}
    fns = {site["name"]: base(site["fn"]) for site in observed(relations.p)}
    counts = {name: int(fn.probs.shape[-1]) for name, fn in fns.items() if isinstance(fn, Categorical)}
    codes = {name: tuple(map(str, range(count))) for name, count in counts.items() if count <= CLASSES}
    return codes | {
        site["name"]: tuple(train.labels[name])
        for site in observed(relations.p)
        for name, value in columns.items()
        if site["value"].shape == value.shape and bool((site["value"] == value).all())
    }


def _in_memory(new: Dataset) -> Dataset:
    """Loads rows that are stored on disk."""
    return replace(new, tensors={name: values[:] for name, values in new.tensors.items()}) if new.stored else new


def _require_known(relations: Relations, train: Dataset, new: Dataset) -> None:
    """Raises `BadData` if new columns can't be matched with those of the fit, or have gaps."""
    if not train.named and new.named and not set(new.tensors) <= set(train.tensors):
        raise BadData(
            f"The fit's columns have no names (they were passed to the model by position), and the new ones are called {', '.join(map(repr, new.tensors))}. Wanted: new rows in the same form "
            "as the old ones, in a tuple or alone, or a fit to columns with the names of the model's arguments."
        )
    for place, name in enumerate(relations.names):
        if name in (new.unusable or {}) and not relations.observes(place):
            raise BadData((new.unusable or {})[name])
    seen = [name for place, name in enumerate(relations.names) if relations.observes(place) and name in new.tensors]
    rows, said = gaps_of(new.name, {name: new.tensors[name] for name in seen})
    if len(rows) and not is_without_gaps(relations.pair.model):
        raise BadData(f"{said}. Wanted: known numbers. Leave out a column that is to be predicted, for all rows.")


def _new_groups(relations: Relations, rows: NewRows, train: Dataset, new: Dataset) -> list[NewGroups]:
    found = []
    for place, (name, codes, old) in enumerate(zip(relations.names, rows.args, relations.args, strict=True)):
        if (
            codes is None
            or name == ROWS
            or name in rows.observed
            or codes.dtype == torch.bool
            or old.is_floating_point()
        ):
            continue
        labels = train.labels.get(name, ())
        known = len(labels) or int(old.max()) + 1
        names = dict(enumerate(new.labels.get(name, ()))) if labels else {}
        found.append(new_groups(relations, place, codes, known, names))
    return [one for one in found if one is not None]


def _of_rows(relations: Relations, rows: NewRows, groups: Groups, new: Dataset) -> dict[str, str]:
    """Latent of rows → how it is drawn."""
    how = dict.fromkeys(relations.local(), MODEL)
    if not rows.informed:  # there are no data about them
        return how
    summed = set(summed_out(relations.q, relations.p))
    computed = set(how) if new.numbers is not None and ROWS in relations.names else set(relations.amortised())
    args = rows.plain(relations.pair.model)
    try:
        shared = [s for s in latents(relations.look(args)) if s["name"] not in how] if groups.new else []
        q = relations.guided(args, {site["name"]: site["value"] for site in shared})
    except (*FAILURES, VBayesError):  # it needs a missing column
        return how
    guided = {name for name in how if name in computed and name in q}
    for one in groups.own:
        if guided and one.axes is not None:
            guided -= set(relations.knows_by_number(one.column, one.axes))
    how |= dict.fromkeys((name for name in how if name in guided), GUIDE)
    if not rows.missing:
        how |= dict.fromkeys((name for name in how if name in summed), CONDITIONAL)
    return how


def _draws(relations: Relations, train: Dataset, names: Sequence[str], draws: int, method: Method, seed: int) -> Values:
    """Draws the latents given the data of the fit."""
    pair, args = relations.pair, relations.args
    if method == "psis":
        return _weighted(pair, train, names, draws, seed)
    summed = [name for name in summed_out(relations.q, relations.p) if name in names]

    def one() -> Values:
        if not summed:
            q: Any = pyro.poutine.trace(pair.guide).get_trace(*args)
            return {name: q.nodes[name]["value"] for name in names if name in q}
        q, p = pair.run(Batch(args))
        q, _ = Summed(pair.model, args, {}, q, p).together(q)
        return {name: q.nodes[name]["value"] for name in names if name in q}

    with pair.scope(), torch.no_grad(), rng.seeded(seed), validation(False):
        return many(one, draws, args[0].device if args else torch.device("cpu"))


def _weighted(pair: Pair, data: Dataset, names: Sequence[str], draws: int, seed: int) -> Values:
    found = posterior(pair, data, draws, "psis", seed=seed).draws
    return {name: found[name].to(data.first.device) for name in names if name in found}


def _look(predictive: Predictive, known: Values, args: tuple[Any, ...]) -> Values:
    with predictive.pair.look(), torch.no_grad(), validation(False):
        made = made_sites(replace(predictive, args=args).run(known), predictive.wanted)
    return {site["name"]: site["value"] for site in made}
