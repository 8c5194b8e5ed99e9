"""Finds observed values whose log-density is not finite for any latents, so that a guide can't find a start."""

from __future__ import annotations

from typing import Any

import pyro
import torch
from torch import Tensor

from ..data.columns_for import parameters_of
from ..data.dataset import Batch
from ..errors import BadPair
from ..validation import no_warnings_of_nan, validation
from .agreement import BOOLEAN, weigh
from .pair import Pair
from .sites import base, observed

DRAWS = 10  # draws from the prior; a possible row has a finite density at one of them, unless the prior is far off


def require_density(pair: Pair, batch: Batch) -> None:
    """Raises `BadPair` if observed values are of the wrong type, outside their support, or, in some rows but not all, of no finite log-density at any draw from the prior.

    Args:
        batch: A batch on the pair's device.
    """
    bad: dict[str, Tensor] = {}
    found: dict[str, Any] = {}
    with pair.copy().look(), torch.no_grad(), validation(False), no_warnings_of_nan():
        for _ in range(DRAWS):
            for site in observed(pyro.poutine.trace(pair.model).get_trace(*batch.args)):
                name = site["name"]
                try:
                    weigh(site, latent=False)
                except BadPair as error:
                    raise BadPair(
                        f"{error}{_as_numbers(pair, batch, site['value']) * (BOOLEAN in str(error))}"
                    ) from error
                here = ~torch.isfinite(site["log_prob"])
                if site["mask"] is not None:
                    here = here & torch.as_tensor(site["mask"], device=here.device)
                bad[name], found[name] = bad[name] & here if name in bad else here, site
    for name, here in bad.items():
        if here.any() and not here.all():  # if it is the same in all rows, the model is the cause, not the data
            first = here.nonzero()[0].tolist()
            value, family = float(found[name]["log_prob"][tuple(first)]), type(base(found[name]["fn"])).__name__
            row = first[0] if len(first) == 1 else tuple(first)
            raise BadPair(
                f"Site {name!r} is {value:g} at row {row} at each of {DRAWS} draws from the prior{_others(here)}: its {family} gives no density to the data there"
                f"{_row(pair, batch, here, first)}. Wanted: rows that are possible under the model, with rates, scales and exposures above 0. Fix: drop those rows, or correct them."
            )


def _arguments(pair: Pair, batch: Batch) -> dict[str, Tensor]:
    parameters = parameters_of(pair.model) or []
    return {p.name: a for p, a in zip(parameters, batch.args, strict=False) if isinstance(a, Tensor)}


def _as_numbers(pair: Pair, batch: Batch, value: Tensor) -> str:
    """Which argument to convert if a site can't observe integers or booleans."""
    same = [name for name, a in _arguments(pair, batch).items() if a.dtype == value.dtype and torch.equal(a, value)]
    return f" Its values are those of {same[0]!r}: table[{same[0]!r}].astype(float), or obs={same[0]}.float() in the model." if same else ""  # fmt: skip


def _others(here: Tensor) -> str:
    count = int(here.sum()) - 1
    return f" (and at {count} more)" if count else ""


def _row(pair: Pair, batch: Batch, here: Tensor, first: list[int]) -> str:
    """The values of the row, by argument."""
    if here.dim() != 1:
        return ""
    own = {name: a for name, a in _arguments(pair, batch).items() if a.shape == here.shape}
    return f", where {', '.join(f'{name} = {a[first[0]].item():g}' for name, a in own.items())}" if own else ""
