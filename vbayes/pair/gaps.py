"""Missing data: checks that missing values don't reach the log-density or its gradient, as a mask should ensure."""

from __future__ import annotations

from typing import Any

import torch
from pyro.poutine.messenger import Messenger
from torch import Tensor

from ..data.dataset import Batch, Dataset
from ..errors import BadData
from ..validation import no_warnings_of_nan, validation
from .generation import drawn_from
from .missing import base_of, is_without_gaps, known_of, partly
from .pair import Pair
from .sites import Layout, Term, kind, latents, sites

MEND = (
    '. Drop those rows or impute them; or leave the missing values out of the likelihood: vb.fit(..., missing="mask") or `vbayes train --missing mask`, or in the model, '
    "with pyro.poutine.mask(mask=~x.isnan()): pyro.sample(..., obs=x.nan_to_num())."
)
OTHERWISE = ' other than as an observed value, and missing="mask" leaves out only observed values. Drop those rows or impute them; or make the missing values latents of the model.'


def check_gaps(pair: Pair, data: Dataset, batch_size: int | None) -> None:
    """Raises `BadData` if NaN or infinite values of the data reach the log-density or its gradient, which would make training impossible.

    Args:
        pair: A pair, which is initialised if necessary.
        data: Data on the pair's device.
        batch_size: M, if the pair will see minibatches.
    """
    rows, where = data.gaps(pair.model)
    if not len(rows):
        return
    if pair.word is not None:  # its guide would search for a start with them
        pair = Pair(pair.model, _Held()(drawn_from(pair.model)), name=pair.name)
    if batch_size is None:
        require_masked(pair, data.batch(pair.model), where, _nameless(pair, data))
        return
    others = torch.arange(len(data), device=rows.device)
    index = torch.cat([rows, others[~torch.isin(others, rows)]])
    first = data.batch(pair.model, index[:batch_size].to(data.first.device))
    joint = require_masked(pair, first, where, _nameless(pair, data))
    for some in rows[batch_size:].split(batch_size) if joint else ():
        require_masked(pair, data.batch(pair.model, some.to(data.first.device)), where)


def require_masked(pair: Pair, batch: Batch, where: str, nameless: str = "") -> bool:
    """Runs `check_gaps` on some rows.

    Args:
        batch: The arguments that model and guide are called with.
        where: The place of the gaps, as the beginning of a sentence.
        nameless: Message if the pair does not run at all because of gaps in columns of names.

    Returns:
        Whether missing values are left out of a joint distribution, so that all rows have to be checked.
    """
    try:
        with validation(False):
            pair.initialise(batch)
        with pair.look(), torch.enable_grad(), validation(False), no_warnings_of_nan():
            q, p = pair.run(batch)
            shared = Layout(q, p)
            terms = [(site, Term.of(site, shared).sum_to(())) for site in [*sites(q), *sites(p)]]
            held = {s["name"]: s["value"] for s in latents(q) if s["value"].requires_grad and s["value"].is_leaf}
            leaves = {**held, **pair.leaves}
            total = sum(term.sum() for _, term in terms)
            gradients: tuple[Tensor | None, ...] = ()
            if isinstance(total, Tensor) and total.requires_grad:
                gradients = torch.autograd.grad(total, list(leaves.values()), allow_unused=True)
    except (ValueError, RuntimeError, IndexError, TypeError, NotImplementedError) as error:
        if nameless:
            raise BadData(nameless) from error
        return False  # it fails with or without gaps; the next check reports why
    masked = [site for site in sites(p) if known_of(site) is not None]
    for site in masked:
        _check_left_out(site, batch, where)
    for site, term in terms:
        if not (torch.isfinite(term).all() if kind(site) == "data" else not term.isnan().any()):
            raise BadData(
                f"{where}, which reach the log-density of site {site['name']!r} of pair {pair.name!r}{OTHERWISE if is_without_gaps(pair.model) else MEND}"
            )
    for name, gradient in zip(leaves, gradients, strict=False):
        if gradient is not None and gradient.isnan().any():
            raise BadData(
                f"{where}. They are masked out of the log-density of pair {pair.name!r}, but still reach the gradient of {name!r}, where NaN times 0 is NaN. Replace them "
                "before anything is computed from them, and keep the mask: obs=x.nan_to_num()."
            )
    return any(base_of(site).event_dim for site in masked)


def _nameless(pair: Pair, data: Dataset) -> str:
    """Message about gaps in the columns of names that a model uses; empty if there are none."""
    asked = [name for name in data.asked(pair.model) if name in data.labels]
    missing = {name: data.tensors[name].isnan() for name in asked}
    gaps = {name: own for name, own in missing.items() if bool(own.any())}
    if not gaps:
        return ""
    each = [
        f"column {name!r} of {data.name!r} has no name in {int(own.sum())} of {len(own)} rows (first: row {int(own.nonzero()[0])})"
        for name, own in gaps.items()
    ]
    said = ", ".join(each)
    return (
        f"{said[0].upper()}{said[1:]}, and a missing code can't be used as an index. Wanted: a name in each row. Fix: table.dropna(subset={list(gaps)}), or a name for unknown "
        f"values, table[{next(iter(gaps))!r}].fillna('unknown')."
    )


class _Held(Messenger):
    """Draws latents as leaves that require gradients."""

    def _pyro_sample(self, msg: Any) -> None:
        if kind(msg) == "latent" and msg["value"] is None:
            with torch.no_grad():
                value = msg["fn"]()
            msg["value"], msg["done"] = value.requires_grad_(value.is_floating_point()), True


def _check_left_out(site: Any, batch: Batch, where: str) -> None:
    """Raises `BadData` if more is left out than is missing."""
    name, known = site["name"], known_of(site)
    if partly(site):
        raise BadData(
            f"{where}, and site {name!r} is a joint distribution, {type(base_of(site)).__name__}, with rows that are partly missing: those rows would be left out entirely. "
            "Drop those rows or impute them, or use to_event with a distribution whose elements are independent given the latents."
        )
    missing = sum(int(a.isnan().sum()) for a in batch.args if isinstance(a, Tensor) and a.is_floating_point())
    if known is not None and (lost := int((~known).sum())) > missing:
        raise BadData(
            f"{where}: {missing} values, but at site {name!r} {lost} are missing. Was something computed from the whole column first, such as its mean? "
            "Wanted: the column itself, obs=x, or a computation that ignores NaN, such as x - x.nanmean()."
        )
