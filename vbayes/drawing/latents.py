"""Sites of a guide for estimators of discrete latents and for measure-valued derivatives."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Set
from contextlib import contextmanager
from typing import Any

import pyro
import torch
from pyro.infer.util import is_validation_enabled
from pyro.ops.provenance import get_provenance, track_provenance
from pyro.poutine.messenger import Messenger
from torch import Tensor
from torch.distributions import (
    Bernoulli,
    Categorical,
    MixtureSameFamily,
    MultivariateNormal,
    Normal,
    OneHotCategorical,
    TransformedDistribution,
)

from ..errors import Unsuitable
from ..pair.sites import Layout, is_point_mass, latents
from ..rng import TURN
from .particles import Latent

KINDS: dict[str, tuple[type, tuple[str, ...]]] = {
    "bernoulli": (Bernoulli, ("logits",)),
    "categorical": (Categorical, ("logits",)),
    "one_hot": (OneHotCategorical, ("logits",)),
    "normal": (Normal, ("loc", "scale")),
    "full_normal": (MultivariateNormal, ("loc", "scale_tril")),
    "normal_mixture": (MixtureSameFamily, ()),
}
FAMILIES = frozenset(KINDS)
WORDS = {
    "bernoulli": "Bernoulli", "categorical": "Categorical", "one_hot": "OneHotCategorical", "normal": "Normal", "full_normal": "MultivariateNormal",
    "normal_mixture": "MixtureSameFamily (of normals)",
}  # fmt: skip

Restore = Callable[[Tensor], Tensor]
"""Converts (*local, own) back to the shape of a site's value."""


def latents_of(
    q: pyro.poutine.Trace, layout: Layout, families: Set[str], guide: Callable[[], object]
) -> list[tuple[Latent, Restore]]:
    """The latent sites of a guide's trace, and the conversion back to their original shapes.

    Args:
        families: The allowed families.
        guide: The guide, which validation runs once more to test whether a distribution depends on other draws.

    Raises:
        Unsuitable: A site is of another family, or depends on other draws.
    """
    found = []
    every = [
        site for site in latents(q) if not is_point_mass(site["fn"])
    ]  # an autoguide's latents are computed from its draws
    for site in every:
        family = next((f for f in families if _is_of(site["fn"], f)), None)
        if family is None:
            raise Unsuitable(
                f"Site {site['name']!r} of the guide is {type(_inside(site['fn'])).__name__}. This estimator needs every site to be "
                f"{' or '.join(WORDS[f] for f in sorted(families))}. Use vb.Trace(), vb.RaoBlackwell() or vb.RLOO()."
            )
        found.append(_latent(site, family, layout))
    if is_validation_enabled() and len(every) > 1:
        with Followed():
            followed = pyro.poutine.trace(guide).get_trace()
        for latent, _ in found:
            fn = _inside(followed.nodes[latent.name]["fn"])
            if causes := set().union(*map(get_provenance, _own(fn, latent.family).values())):
                raise Unsuitable(
                    f"The distribution of site {latent.name!r} of the guide depends on the draw{'s' * (len(causes) > 1)} of {', '.join(sorted(causes))}. "
                    "This estimator needs sites that are independent given the data. Use vb.Trace(), vb.RaoBlackwell() or vb.RLOO()."
                )
    return found


class Followed(Messenger):
    """Tracks which draws each tensor was computed from."""

    def _pyro_post_sample(self, msg: Any) -> None:
        if not msg["is_observed"] and isinstance(msg["value"], Tensor):
            msg["value"] = track_provenance(msg["value"], frozenset({msg["name"]}))


@contextmanager
def linear_between() -> Iterator[None]:
    """Makes the log-density of one-hot values linear between them, as it is for zeros and ones; torch's own is piecewise constant, with zero gradient."""
    before = OneHotCategorical.log_prob
    with TURN:
        OneHotCategorical.log_prob = lambda self, value: (value * self.logits).sum(-1)  # type: ignore[method-assign]
        try:
            yield
        finally:
            OneHotCategorical.log_prob = before  # type: ignore[method-assign]


def _inside(fn: Any) -> Any:
    """The distribution of a single coordinate, inside `to_event`, `expand` and `mask`; not inside a transform."""
    while hasattr(fn, "base_dist") and not isinstance(fn, TransformedDistribution):
        fn = fn.base_dist
    return fn


def _with_pyros(kind: Any) -> set[type]:
    """One of torch's families, Pyro's class of it, and Pyro's versions without a reparameterised path."""
    return {kind, *(sub for sub in _below(kind) if sub.__name__.removeprefix("Nonreparameterized") == kind.__name__)}


def _below(kind: Any) -> list[type]:
    return [deeper for sub in kind.__subclasses__() for deeper in (sub, *_below(sub))]


def _is_of(fn: Any, family: str) -> bool:
    inside = _inside(fn)
    if type(inside) not in _with_pyros(KINDS[family][0]):
        return False
    if family != "normal_mixture":
        return True
    normals = _with_pyros(Normal) | _with_pyros(MultivariateNormal)
    return type(_inside(inside.component_distribution)) in normals


def _own(fn: Any, family: str) -> dict[str, Tensor]:
    """The parameters of the distribution `_inside` a site's distribution, in their own shapes."""
    if family != "normal_mixture":
        return {name: getattr(fn, name) for name in KINDS[family][1]}
    part = _inside(fn.component_distribution)
    spread = "scale_tril" if isinstance(part, MultivariateNormal) else "scale"
    return {"logits": fn.mixture_distribution.logits, "loc": part.loc, spread: getattr(part, spread)}


def _latent(site: Any, family: str, layout: Layout) -> tuple[Latent, Restore]:
    value, events = site["value"].detach(), site["fn"].event_dim
    kept = 1 if family == "one_hot" else 0  # categories stay a dimension of their own
    arrange, restore = as_rows(layout, value, events, kept)
    inside = _inside(site["fn"])
    own = _own(inside, family)
    if family in ("full_normal", "normal_mixture") and len(inside.batch_shape) > len(layout.local):
        raise Unsuitable(
            f"Site {site['name']!r} of the guide consists of several {type(inside).__name__}s. Wanted: one for each row of the plates that all sites share."
        )
    if family == "normal_mixture":
        return Latent(site["name"], family, _of_mixture(own, arrange, events), arrange(value)), restore
    deeper = (
        {"scale_tril", "logits"} if family == "categorical" else {"scale_tril"}
    )  # one dimension more than the value
    parameters = {name: _columns(part, arrange) if name in deeper else arrange(part) for name, part in own.items()}
    return Latent(site["name"], family, parameters, arrange(value)), restore


def _of_mixture(own: dict[str, Tensor], arrange: Restore, events: int) -> dict[str, Tensor]:
    """Parameters of a mixture of C components: `logits` (*local, C), `loc` (*local, C, own), `scale_tril` (*local, C, own, own)."""
    logits = own["logits"].log_softmax(-1)[(..., *[None] * events)]
    weights = [arrange(part)[..., 0] for part in logits.unbind(-1 - events)]
    places = [arrange(part) for part in own["loc"].unbind(-1 - events)]
    if "scale" in own:
        roots = [arrange(part).diag_embed() for part in own["scale"].unbind(-1 - events)]
    else:
        roots = [_columns(part, arrange) for part in own["scale_tril"].unbind(-3)]
    return {"logits": torch.stack(weights, -1), "loc": torch.stack(places, -2), "scale_tril": torch.stack(roots, -3)}


def _columns(tensor: Tensor, arrange: Restore) -> Tensor:
    return torch.stack([arrange(column) for column in tensor.unbind(-1)], -1)


def as_rows(layout: Layout, value: Tensor, events: int, kept: int = 0) -> tuple[Restore, Restore]:
    """Conversions from the shape of a site's value to (*local, own), where `own` is everything beyond the local plates, and back.

    Args:
        events: The number of its last dimensions that are not plates.
        kept: The number of these, from the last on, that remain separate dimensions.
    """
    rank = value.dim()
    first = [rank - events + f.dim for f in layout.local]
    last = list(range(rank - kept, rank))
    order = [*first, *(d for d in range(rank - kept) if d not in first), *last]
    turned = value.permute(order)

    def arrange(tensor: Tensor) -> Tensor:
        whole = tensor.expand(value.shape).permute(order)
        return whole.reshape(*whole.shape[: len(first)], -1, *whole.shape[rank - kept :])

    def restore(tensor: Tensor) -> Tensor:
        back = sorted(range(rank), key=order.__getitem__)
        return tensor.reshape(turned.shape).permute(back)

    return arrange, restore
