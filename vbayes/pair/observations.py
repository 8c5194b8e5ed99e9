"""Checks that a model observes something: an optional argument whose column is missing or misnamed would make its outcome a latent."""

from __future__ import annotations

import pyro
import torch

from ..data.columns_for import parameters_of
from ..data.dataset import Dataset
from ..errors import BadData, BadPair, VBayesError, near
from ..validation import validation
from .explained import FAILURES
from .pair import Pair
from .sites import factors, observed


def require_arguments(pair: Pair) -> None:
    """Raises `BadPair` if the model has no arguments that data could be passed to."""
    if parameters_of(pair.model) == []:
        raise BadPair(
            f"Model {pair.name!r} takes no arguments, so no data can be passed to it. Write it as `def {pair.name}(x): ... obs=x`, and the guide likewise, and pass the data: "
            "vb.fit(pair, x). vb.SVI takes model and guide without arguments, and vb.check(pair) checks them."
        )


def require_observations(pair: Pair, data: Dataset, batch_size: int | None) -> None:
    """Raises `BadData` if an argument with default None gets no column, and the model then has neither observed sites nor factors.

    Args:
        batch_size: M, the number of rows that are looked at; None for all.
    """
    asked = data.asked(pair.model)
    empty = _empty(pair, asked, data.named)
    if not empty:
        return
    rows = None if batch_size is None else torch.arange(batch_size, device=data.first.device)
    batch = pair.beside(data.batch(pair.model, rows))
    try:
        with pair.copy().look(), torch.no_grad(), validation(False):
            found = pyro.poutine.trace(pair.model).get_trace(*batch.args)
    except (*FAILURES, VBayesError):
        return  # the checks that follow report why
    if observed(found) or factors(found):
        return
    name = next((each for each in empty if each in found), empty[0])  # data usually have the name of their site
    columns = ", ".join(data.tensors)
    if not data.named:
        raise BadData(
            f"The model observes nothing: argument {name!r} gets no data. Wanted: data for it. Fix: pass ({columns}, {name})."
        )
    hint = near(name, [each for each in data.tensors if each not in asked])
    raise BadData(
        f"The model observes nothing: argument {name!r} has no column. {hint + ' ' * bool(hint)}The columns of {data.name!r}: {columns}. Wanted: a column of that name."
    )


def _empty(pair: Pair, asked: list[str], named: bool) -> list[str]:
    """The arguments with default None that get no data."""
    parameters = parameters_of(pair.model) or []
    got = asked if named else [p.name for p in parameters[: len(asked)]]
    return [p.name for p in parameters if p.default is None and p.name not in got]
