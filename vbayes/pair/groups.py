"""Warnings about the names of groups: that a plate has another size than there are names, and that two names look alike."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Collection, Iterable, Mapping

import torch

from ..data.dataset import Batch, Dataset
from ..errors import warn
from ..summaries.card import counted
from ..validation import validation
from .indexing import names_in, picked
from .pair import Pair
from .sites import observed, plates, recorded

MOST = 3  # names in a message
SOME = 1000  # rows of data on disk that the model is called with


def warn_of_groups(pair: Pair, data: Dataset) -> None:
    """Warns if a plate has another size than the column of names by which it is indexed has names, so that its rows get no labels; or if two names in a column look alike.

    Args:
        pair: An initialised pair.
        data: Its data, on its device.
    """
    asked = data.asked(pair.model)
    if not (named := [name for name in asked if name in data.labels]):
        return
    for name in named:
        seen = list(names_in(data, name).values())
        if alike := twins(seen, ()):
            one, other = next(iter(alike.items()))
            warn(
                f"Column {name!r} of {data.name!r} has the names {other!r} and {one!r}, which differ only in blanks, case or hyphens, and are different groups. Wanted: one name for each group. "
                f"Fix, if they are one: {_mend(name, alike)}."
            )
    _warn_of_sizes(pair, data, asked)


def warn_of_new_names(data: Dataset, trained: Dataset, asked: Collection[str]) -> None:
    """Warns if new data have a name that the data of a fit do not have, but that looks like one of theirs.

    Args:
        data: The new data, with the codes of the fit.
        trained: The data of the fit.
        asked: The columns that the model takes.
    """
    for name in asked:
        known = trained.labels.get(name, ())
        if known and name in data.labels and (alike := twins(names_in(data, name).values(), known)):
            one, other = next(iter(alike.items()))
            warn(
                f"Column {name!r} of {data.name!r} has {one!r}, which the data of the fit do not have, so it is a new group. Did you mean {other!r}? Wanted: names written as in the fit. "
                f"Fix: {_mend(name, alike)}."
            )


def _warn_of_sizes(pair: Pair, data: Dataset, asked: Collection[str]) -> None:
    first = torch.arange(min(len(data), SOME), device=data.first.device) if data.stored else None
    args = data.batch(pair.model, first).args
    with pair.look(), torch.no_grad(), validation(False):
        _, p = pair.run(Batch(args))
    rows = {frame.name for site in observed(p) for frame in plates(site)}
    sizes = {frame.name: int(frame.size) for site in recorded(p) for frame in plates(site) if frame.name not in rows}
    by = picked(pair, args, list(asked))
    for plate, size in sizes.items():
        counts = {column: len(data.labels[column]) for column in by.get(plate, {plate}) if column in data.labels}
        if len({data.labels[column] for column in counts}) != 1 or size in counts.values():
            continue
        column, count = next(iter(counts.items()))
        if plate not in by and size < count:  # only named like it: the effects of all but a reference group
            continue
        warn(
            f"Plate {plate!r} of pair {pair.name!r} has {counted(size, 'row')}, but column {column!r}, which indexes it, has {counted(count, 'name')}, so its rows are numbered instead of labelled. "
            f"Wanted: as many rows as names. Fix: pyro.plate({plate!r}, {count}); or, if there are {size} groups, all their names: "
            f"table[{column!r}] = pd.Categorical(table[{column!r}], names)."
        )


def twins(names: Iterable[str], known: Collection[str]) -> dict[str, str]:
    """Name → the known one that it looks like; if none are known, the one before it.

    Names look alike if they differ only in blanks, case, hyphens and underscores, or from a known one in how a number is written ("7" and "07").
    """
    found, theirs, numbers = dict[str, str](), frozenset(known), bool(known)
    first = {_plain(name, numbers): name for name in reversed(list(known))}
    for name in names:
        if name in theirs:
            continue
        plain = _plain(name, numbers)
        if plain in first:
            found[name] = first[plain]
        elif not theirs:
            first[plain] = name
    return found


def _plain(name: str, numbers: bool) -> str:
    text = re.sub(r"[\s_-]+", " ", unicodedata.normalize("NFKC", name).casefold()).strip()
    try:
        return str(float(text)) if numbers else text
    except ValueError:
        return text


def _mend(column: str, alike: Mapping[str, str]) -> str:
    pairs = ", ".join(f"{one!r}: {other!r}" for one, other in list(alike.items())[:MOST])
    return f"table[{column!r}] = table[{column!r}].replace({{{pairs}{', ...' * (len(alike) > MOST)}}})"
