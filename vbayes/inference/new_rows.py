"""The arguments for calling a model with new rows, whose observed columns may be missing."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ..data.columns_for import ROWS, parameters_of
from ..data.dataset import Batch, Dataset
from ..drawing.relations import Relations
from ..errors import BadData, Unsuitable, VBayesError
from ..pair.explained import FAILURES, explained
from ..pair.sites import observed
from ..summaries.card import first_few

Look = Callable[[tuple[Any, ...]], dict[str, Tensor]]


@dataclass(frozen=True)
class NewRows:
    """The arguments that model and guide are called with.

    Attributes:
        args: The columns in the order of the model's arguments; None for missing ones.
        missing: Columns of the fit that the new rows lack.
        observed: Columns that some site observes.
        count: M.
    """

    args: tuple[Any, ...]
    missing: tuple[str, ...]
    observed: tuple[str, ...]
    count: int

    def plain(self, model: Callable[..., Any]) -> tuple[Any, ...]:
        """The arguments without missing ones at the end that have a default, which Pyro's `Predictive` leaves out too."""
        known = parameters_of(model)
        if known is None:
            return self.args
        found = list(self.args)
        while found and found[-1] is None and len(found) <= len(known):
            if known[len(found) - 1].default is inspect.Parameter.empty:
                break
            found.pop()
        return tuple(found)

    @property
    def informed(self) -> bool:
        """Whether the rows have observed data from which a guide can compute the latents of a row."""
        return bool(set(self.observed) - set(self.missing))


def new_rows(relations: Relations, train: Dataset, new: Dataset) -> NewRows:
    """The columns of new rows, matched to the model's arguments by name, or by position if either side has no names.

    Raises:
        BadData: The new rows have none of the columns of the fit, or have values that are not numbers.
        Unsuitable: The model works only with the number of rows that it was fitted to.
    """
    names, columns = relations.names, list(new.tensors.values())
    by_name = train.named and new.named
    found: list[Tensor | None] = []
    for place, name in enumerate(names):
        if name == ROWS and name not in new.tensors:
            numbers = torch.arange(len(new), device=new.first.device) if new.numbers is None else new.numbers
            found.append(numbers)
        elif by_name:
            found.append(new.tensors.get(name))
        else:
            found.append(columns[place] if place < len(columns) else None)
    if all(value is None for value in found):
        raise BadData(
            f"new_data has the columns {first_few(new.tensors)}. Wanted: some of those that the model was fitted to, {first_few(names)}."
        )
    observed = tuple(name for place, name in enumerate(names) if relations.observes(place))
    for name, value, old in zip(names, found, relations.args, strict=True):
        if value is None:
            continue
        if value.shape[1:] != old.shape[1:]:
            raise BadData(
                f"Column {name!r} of new_data has rows of shape {tuple(value.shape[1:])}. Wanted: {tuple(old.shape[1:])}, as in the fit."
            )
        if name not in observed and value.is_floating_point() and not bool(torch.isfinite(value).all()):
            bad = (~torch.isfinite(value.reshape(len(value), -1)).all(1)).nonzero().flatten()
            raise BadData(
                f"Column {name!r} of new_data has NaN or infinite values in {len(bad)} of {len(value)} rows (first: row {int(bad[0])}). Drop those rows, or fill them in."
            )
    if relations.fixed and len(new) != relations.rows:
        plate = first_few(map(repr, relations.row_plates)) if relations.row_plates else "of its data"
        raise Unsuitable(
            f"The model of pair {relations.pair.name!r} works only with its {relations.rows} rows, so {len(new)} rows can't be predicted. Wanted: the size of plate {plate} from the data, "
            "as pyro.plate('data', len(x))."
        )
    if tied := [name for name in relations.long if name not in relations.local()]:
        raise Unsuitable(
            f"Latent {tied[0]!r} of pair {relations.pair.name!r} has a value for each row, and these values are not independent, so values for new rows can't be drawn given those of the fit. Wanted: a "
            "model whose latents are shared by all rows, or independent for each row of a plate; for a Gaussian process, the values at fixed places (inducing points)."
        )
    missing = tuple(name for name, value in zip(names, found, strict=True) if value is None)
    args = tuple(
        v.to(o.dtype) if v is not None and o.is_floating_point() else v
        for v, o in zip(found, relations.args, strict=True)
    )
    return NewRows(args, missing, observed, len(new))


def called(rows: NewRows, relations: Relations, look: Look) -> tuple[Any, ...]:
    """The arguments of the model: missing columns are left out, as by Pyro's `Predictive`; or replaced by rows of the fit, if the model takes its size from them. The values
    of these are never used: it is an error if predictions depend on them.

    Args:
        rows: The new rows.
        relations: Relations of the model.
        look: Computes the model's predictions from arguments, always with the same noise.

    Raises:
        BadData: A missing column is needed.
        BadPair: The model does not run.
    """
    plain = rows.plain(relations.pair.model)
    batch = Batch(plain)
    if not rows.missing:
        with explained(relations.pair, batch):
            look(plain)
        return plain
    try:
        look(plain)
        return plain
    except (*FAILURES, VBayesError) as error:
        first = error
    filled = _filled(rows, relations.args)
    with explained(relations.pair, Batch(filled)):
        try:
            made = look(filled)
            again = {name: look(_filled(rows, relations.args, name)) for name in rows.missing}
        except VBayesError:
            raise
        except FAILURES:
            raise first from None
    needed = [name for name, other in again.items() if any(not _same(made[site], other[site]) for site in made)]
    if needed:
        raise BadData(
            f"new_data lacks {first_few(map(repr, needed))}, and the predictions of pair {relations.pair.name!r} depend on it. Add that column; or, if it is the one to be predicted, use it as "
            "obs= only, and take the plate's size from another column: def model(x, y=None): ... pyro.plate('data', len(x))."
        ) from first
    return filled


def observed_sites(relations: Relations, rows: NewRows) -> list[str]:
    """The sites that are observed if all columns are present; a model that loops over its rows has one for each row."""
    try:
        found = observed(relations.look(_filled(rows, relations.args)))
    except (*FAILURES, VBayesError):
        found = observed(relations.p)
    return [site["name"] for site in found]


def _filled(rows: NewRows, old: tuple[Any, ...], other: str = "") -> tuple[Any, ...]:
    """Fills missing columns with rows of the fit; the named one, if any, with other rows."""
    made, missing = [], iter(rows.missing)
    for value, column in zip(rows.args, old, strict=True):
        if value is None:
            shift = next(missing) == other
            value = column[(torch.arange(rows.count, device=column.device) + shift) % len(column)]
            if shift and value.is_floating_point():
                value = value + 1  # also if all rows are equal
        made.append(value)
    return tuple(made)


def _same(one: Tensor, other: Tensor) -> bool:
    return one.shape == other.shape and torch.allclose(one.double(), other.double(), equal_nan=True)
