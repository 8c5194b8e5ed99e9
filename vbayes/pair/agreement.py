"""Checks that model and guide agree on their sites, shapes, plates and supports."""

from __future__ import annotations

from typing import Any

import torch
from pyro.util import check_site_shape
from torch import Tensor

from ..errors import BadPair, warn
from .pair import Pair
from .sites import base, latents, plates, sites

BOOLEAN = " Integers and booleans are not converted, as models may index or select by them; pass x.float() if they are meant as real numbers."


def match(pair: Pair, q: Any, p: Any) -> set[str]:
    """The latent sites shared by model and guide; raises an error if any others exist."""
    # A marginalised site needs no guide.
    latent = {s["name"] for s in latents(p) if s["name"] in q or not s["infer"].get("enumerate")}
    guided = {s["name"] for s in sites(q) if not s["infer"].get("is_auxiliary")}
    if missing := sorted(latent - guided):
        raise BadPair(
            f"The guide of pair {pair.name!r} does not sample {quoted(missing)}, which the model samples and does not "
            f"observe. The guide has: {quoted(sorted(guided)) or 'no sites'}. Add pyro.sample({missing[0]!r}, ...) to the "
            f"guide, or give the site its data with obs=.{_or_sum(p.nodes[missing[0]])}"
        )
    observed = {s["name"] for s in sites(p)} - latent
    if unknown := sorted(guided - latent):
        why = "observes" if set(unknown) & observed else "does not have"
        raise BadPair(
            f"The guide of pair {pair.name!r} samples {quoted(unknown)}, which the model {why}. The model's latent sites: "
            f"{quoted(sorted(latent)) or 'none'}. Rename or remove it, or mark it infer={{'is_auxiliary': True}}."
        )
    for name in sorted(latent):
        ours, theirs = p.nodes[name], q.nodes[name]
        if ours["fn"].event_dim != theirs["fn"].event_dim:
            raise BadPair(
                f"Site {name!r}: the model has {ours['fn'].event_dim} event dims {tuple(ours['fn'].event_shape)}, the guide "
                f"{theirs['fn'].event_dim} {tuple(theirs['fn'].event_shape)}. They must agree: use .to_event(n) with the "
                "same n on both sides."
            )
        if ours["fn"].shape() != theirs["fn"].shape():
            raise BadPair(
                f"Site {name!r}: the model's shape is {tuple(ours['fn'].shape())}, the guide's {tuple(theirs['fn'].shape())}. "
                "They must agree in batch and event dims: check the sizes of plates and parameters."
            )
    return latent


def _or_sum(site: Any) -> str:
    if not getattr(site["fn"], "has_enumerate_support", False):
        return ""
    return " Or mark it infer={'enumerate': 'parallel'}, and train with vb.Enumerated(), which sums over its values."


def _outsider(kind: Any, inside: Tensor, value: Tensor) -> float | Tensor:
    """A number outside the support, if numbers are independent; the whole value, or its first number, of a joint distribution."""
    try:
        each = kind.support.check(value)
    except (NotImplementedError, AttributeError, RuntimeError):
        each = inside
    if not each.dim():
        return value
    if each.all():
        each = inside
    return value[~each.expand(value.shape[: each.dim()])].reshape(-1)[0].item()


def _is_grey(kind: Any, value: Tensor) -> bool:
    return type(kind).__name__ == "Bernoulli" and bool(((value >= 0) & (value <= 1)).all())


def weigh(site: Any, *, latent: bool) -> None:
    """Raises `BadPair` if a site's value has no density, or its batch dims differ from its plates."""
    name, fn, value = site["name"], site["fn"], site["value"]
    if not latent:
        value = _without_the_masked(site)
    try:
        inside = fn.support.check(value)
    except (NotImplementedError, AttributeError):  # a distribution that does not know its support
        inside = value.new_ones((), dtype=torch.bool)
    except RuntimeError as error:
        raise BadPair(
            f"Site {name!r}: a value of shape {tuple(value.shape)} does not fit {fn}. {error} Wanted: a value of the same shape as the distribution."
        ) from error
    kind = base(fn)
    if not latent and not inside.all() and _is_grey(kind, value):
        warn(
            f"Site {name!r}: its data run from {float(value.min()):.4g} to {float(value.max()):.4g} with values in between, such as {_outsider(kind, inside, value):.4g}, under a "
            "Bernoulli likelihood. Its formula is not a log-probability for such values, so the result is not an ELBO. Make them 0 or 1 with vb.fit(..., binarize='threshold', 'static' or "
            "'dynamic') or Dataset.binarized, or choose a likelihood for real numbers, such as output='gaussian'."
        )
        value = value.round()
    elif not inside.all():
        raise BadPair(
            f"Site {name!r}: {'the guide draws' if latent else 'the data have'} a value ({_outsider(kind, inside, value)}) outside the support of "
            f"the model's {type(kind).__name__}. "
            + (
                "Use a guide over the same support."
                if latent
                else f"They run from {float(value.min()):.4g} to {float(value.max()):.4g}. Choose a likelihood for such data, or rescale them."
            )
        )
    try:
        site["log_prob"] = fn.log_prob(value, *site["args"], **site["kwargs"])
        check_site_shape(site, max_plate_nesting=10**6)
    except (RuntimeError, TypeError) as error:
        what = f"{tuple(value.shape)} {str(value.dtype).removeprefix('torch.')}"
        raise BadPair(
            f"Site {name!r}: {type(kind).__name__} has no density for values {what}: {error}. Wanted: values of the right type and shape.{BOOLEAN * (not value.is_floating_point())}"
        ) from error
    except ValueError as error:
        raise BadPair(
            f"Site {name!r} does not fit its plates ({', '.join(f.name for f in plates(site)) or 'none'}): "
            f"{' '.join(str(error).split())} Wanted: matching shapes of data and plates; check to_event and the sizes of plates."
        ) from error


def _without_the_masked(site: Any) -> Any:
    """A site's data, with draws in the places that are masked out, whatever values are there."""
    value, fn = site["value"], site["fn"]
    masks, level = [(site["mask"], fn.event_dim)], fn
    while hasattr(level, "base_dist"):
        masks.append((getattr(level, "_mask", None), level.event_dim))
        level = level.base_dist
    for mask, dims in masks:
        if isinstance(mask, Tensor) and mask.dtype == torch.bool and not mask.all():
            value = torch.where(mask.reshape((*mask.shape, *(1,) * dims)), value, fn.sample())
    return value


def quoted(names: list[str]) -> str:
    return ", ".join(map(repr, names))
