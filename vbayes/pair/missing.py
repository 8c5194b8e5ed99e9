"""Missing data, left out of the likelihood: an observed NaN has no density."""

from __future__ import annotations

import copy
import functools
import inspect
from collections.abc import Callable
from typing import Any

import torch
from pyro.distributions.torch_distribution import MaskedDistribution
from pyro.poutine.messenger import Messenger
from torch import Tensor
from torch.distributions import Independent, biject_to

from .sites import kind

KNOWN, GIVEN = "known", "given"  # in a site's `infer`: where its value stands, and that value with its gaps


def without_gaps(model: Callable[..., Any]) -> Callable[..., Any]:
    """The model with observed NaN values masked out of the log-density.

    Something inside the support stands there instead, so that the gradient has no NaN either. Where numbers are independent (`to_event`), each goes by
    itself; of a joint distribution, as a multivariate normal, all numbers of a row go.
    """

    if is_without_gaps(model):
        return model

    @functools.wraps(model)
    def known_alone(*args: Any, **kwargs: Any) -> Any:
        with _Gaps():
            return model(*args, **kwargs)

    known_alone.__signature__ = inspect.signature(getattr(model, "forward", model))  # type: ignore[attr-defined]
    known_alone.without_gaps = True  # type: ignore[attr-defined]
    return known_alone


def is_without_gaps(model: Any) -> bool:
    """Whether a model is one that `without_gaps` has made, within handlers of Pyro too."""
    while isinstance(model, functools.partial) and model.args:
        model = model.args[-1]
    return hasattr(model, "without_gaps")


def looking_at(guide: Any, model: Callable[..., Any]) -> Any:
    """A guide chosen by name that has not searched for its start yet, rebuilt for another model with the same settings."""
    twin = object.__new__(type(guide))
    twin.__dict__.update(
        {name: copy.copy(value) if isinstance(value, dict) else value for name, value in vars(guide).items()}
    )
    twin.__dict__.update({name: (model,) for name in ("_plain", "_model") if name in vars(guide)})
    return twin


def known_of(site: Any) -> Tensor | None:
    """(*value.shape) where a site has a value; None if that was not recorded."""
    return site["infer"].get(KNOWN)  # type: ignore[no-any-return]


def base_of(site: Any) -> Any:
    """A site's distribution inside `to_event` and `mask`: what makes a number, or a row of which no part can be left out."""
    inner, _ = _inner(site["fn"])
    return getattr(inner, "base_dist", inner) if isinstance(inner, MaskedDistribution) else inner


def partly(site: Any) -> bool:
    """Whether a joint distribution has rows of which some numbers are missing, and others not: those would go as well."""
    known, dims = known_of(site), base_of(site).event_dim
    if known is None or not dims:
        return False
    rows = known.flatten(-dims)
    return bool((rows.any(-1) != rows.all(-1)).any())


def counted(site: Any) -> Tensor | None:
    """(*batch) where an observed site has a log-density, for a mask leaves it out elsewhere; None where there is no mask. An event counts if any of its numbers does."""
    fn, dims = site["fn"], 0
    masks = [] if site["mask"] is None else [torch.as_tensor(site["mask"], device=site["value"].device)]
    while isinstance(fn, (Independent, MaskedDistribution)):
        if isinstance(fn, Independent):
            dims += fn.reinterpreted_batch_ndims
        else:
            own = torch.as_tensor(fn._mask, device=site["value"].device).expand(fn.batch_shape)
            masks.append(own.flatten(-dims).any(-1) if dims else own)
        fn = fn.base_dist
    found = None
    for mask in masks:
        found = mask if found is None else found & mask
    return found


class _Gaps(Messenger):
    def _pyro_sample(self, msg: Any) -> None:
        value = msg["value"]
        if kind(msg) != "data" or not isinstance(value, Tensor) or not value.is_floating_point():
            return
        known = ~value.isnan()
        fn, independent = _inner(msg["fn"])
        msg["value"] = torch.where(known, value, _inside(fn, value))
        msg["infer"] = {**msg["infer"], KNOWN: known, GIVEN: value}
        known = known.flatten(-fn.event_dim).all(-1) if fn.event_dim else known
        if independent:
            msg["fn"] = fn.mask(known).to_event(independent)
        else:
            msg["mask"] = known if msg["mask"] is None else msg["mask"] & known

    def _pyro_post_sample(self, msg: Any) -> None:
        # What a trace has is filled in; the model gets back what it gave: computed from, it is still missing.
        if msg["is_observed"] and GIVEN in msg["infer"]:
            msg["value"] = msg["infer"][GIVEN]


def _inner(fn: Any) -> tuple[Any, int]:
    """What `to_event` was called on, and for how many dimensions."""
    dims = 0
    while isinstance(fn, Independent):
        fn, dims = fn.base_dist, dims + fn.reinterpreted_batch_ndims
    return fn, dims


def _inside(fn: Any, value: Tensor) -> Tensor:
    """Numbers that a distribution allows, in the shape of a value."""
    support = fn.support
    while (base := getattr(support, "base_constraint", None)) is not None:
        support = base
    if support.is_discrete:
        return torch.zeros_like(value) + getattr(support, "lower_bound", 0)
    to = biject_to(support)
    zeros = value.new_zeros(to.inverse_shape(value.shape))
    with torch.no_grad():
        return to(zeros).to(value.dtype).expand_as(value)  # type: ignore[no-any-return]
