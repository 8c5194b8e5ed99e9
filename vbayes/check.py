"""A look at a pair before it is fitted: what each site is, and whether it can work at all."""

from __future__ import annotations

from dataclasses import astuple, dataclass
from typing import Any

import pyro
import torch
from pyro.util import check_site_shape
from rich.console import Console
from rich.table import Table

from . import rng
from .dataset import Batch
from .errors import BadPair
from .pair import DATA_PLATE, Pair
from .sites import closed_form_kls, has_path, plates, sites
from .tables import plain_table

FAILURES = (ValueError, RuntimeError, IndexError, TypeError)  # of a user's own code on arguments that do not fit
HEADINGS = ("site", "shape", "plates", "scale", "reparameterised?", "analytic KL?", "in the guide?")


@dataclass(frozen=True)
class Site:
    """One row of the table that `check` prints.

    Attributes:
        name: The site.
        shape: Of its value.
        plates: Name and size of each plate around it.
        scale: Factor on its log-density (N/M in a minibatch).
        reparameterised: Whether its draw has a pathwise gradient; empty for observed sites.
        analytic_kl: "yes" where `AnalyticKL` uses a closed form, else "sampled"; empty for observed sites.
        in_guide: "yes", "observed", or "auxiliary" for sites of the guide alone.
    """

    name: str
    shape: tuple[int, ...]
    plates: tuple[tuple[str, int], ...]
    scale: float
    reparameterised: str
    analytic_kl: str
    in_guide: str


@dataclass(frozen=True)
class Check:
    """What `check` found: the pair's sites, the guide's own first."""

    pair: str
    sites: tuple[Site, ...]

    @property
    def data_plate(self) -> bool:
        """Whether any site is in the plate `"data"`, which minibatches need."""
        return any(name == DATA_PLATE for site in self.sites for name, _ in site.plates)

    def table(self) -> Table:
        """As a rich table."""
        table = plain_table(*HEADINGS, title=f"pair {self.pair!r}")
        for site in self.sites:
            name, shape, frames, scale, *rest = astuple(site)
            where = ", ".join(f"{plate}[{size}]" for plate, size in frames) or "–"
            table.add_row(name, str(shape), where, f"{scale:g}", *rest)
        return table


def check(pair: Pair, *batch: Any, show: bool = True) -> Check:
    """Draws once from guide and model and reports on each site.

    Args:
        pair: Model and guide.
        batch: The arguments that they are called with.
        show: Print the table.

    Raises:
        BadPair: A site that only one of the two has, shapes that differ, or a value outside its site's support.

    Examples:
        >>> vb.check(pair, x)
    """
    found = examine(pair, Batch(batch))
    if show:
        Console().print(found.table())
    return found


def examine(pair: Pair, batch: Batch) -> Check:
    """`check` for a batch that knows how many rows the whole data set has; prints nothing."""
    try:
        pair.initialise(batch)
        with pair.scope(), rng.seeded(0), torch.no_grad(), pyro.validation_enabled(True):
            q, p = pair.run(batch)
    except FAILURES as error:
        raise BadPair(_explain(pair, batch, error)) from error
    with pair.scope(), torch.no_grad(), pyro.validation_enabled(True):
        latents = _match(pair, q, p)
        for site in sites(q) + sites(p):
            _weigh(site, latent=site["name"] in latents)
        closed = closed_form_kls(q, p)
    own = [s for s in sites(q) if s["name"] not in p]
    return Check(pair.name, tuple(_row(s, q, closed) for s in own + sites(p)))


def _match(pair: Pair, q: Any, p: Any) -> set[str]:
    """The latent sites that model and guide share; anything else is an error."""
    latent = {s["name"] for s in sites(p) if not s["is_observed"]}
    guided = {s["name"] for s in sites(q) if not s["infer"].get("is_auxiliary")}
    if missing := sorted(latent - guided):
        raise BadPair(
            f"The guide of pair {pair.name!r} does not sample {_quoted(missing)}, which the model samples and does not "
            f"observe. The guide has: {_quoted(sorted(guided)) or 'no sites'}. Add pyro.sample({missing[0]!r}, ...) to the "
            "guide, or give the site its data with obs=."
        )
    observed = {s["name"] for s in sites(p)} - latent
    if unknown := sorted(guided - latent):
        why = "observes" if set(unknown) & observed else "does not have"
        raise BadPair(
            f"The guide of pair {pair.name!r} samples {_quoted(unknown)}, which the model {why}. The model's latent sites: "
            f"{_quoted(sorted(latent)) or 'none'}. Rename or remove it, or mark it infer={{'is_auxiliary': True}}."
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
                "They must agree, batch and event dims alike: look at the sizes of the plates and the parameters."
            )
    return latent


def _weigh(site: Any, *, latent: bool) -> None:
    """Raises `BadPair` where a site's value has no density or its batch dims are not its plates'."""
    name, fn, value = site["name"], site["fn"], site["value"]
    try:
        inside = fn.support.check(value)
    except (NotImplementedError, AttributeError):  # a distribution that does not know its support
        inside = torch.tensor(True)
    except RuntimeError as error:
        raise BadPair(f"Site {name!r}: a value of shape {tuple(value.shape)} does not fit {fn}. {error}") from error
    if not inside.all():
        wrong = value[~inside.expand(value.shape[: inside.dim()])].reshape(-1)[0].item() if inside.dim() else value
        raise BadPair(
            f"Site {name!r}: {'the guide draws' if latent else 'the data have'} a value ({wrong}) outside the support of "
            f"the model's {_family(fn)}. "
            + (
                "Use a guide over the same support."
                if latent
                else "Choose a likelihood for such data, or rescale them."
            )
        )
    try:
        site["log_prob"] = fn.log_prob(value, *site["args"], **site["kwargs"])
        check_site_shape(site, max_plate_nesting=10**6)
    except ValueError as error:
        raise BadPair(
            f"Site {name!r} does not fit its plates ({', '.join(f.name for f in plates(site)) or 'none'}): "
            f"{' '.join(str(error).split())}"
        ) from error


def _row(site: Any, q: Any, closed: Any) -> Site:
    name, observed = site["name"], site["is_observed"]
    scale = site["scale"]
    latent = "" if observed else "yes" if name in closed else "sampled"
    return Site(
        name,
        tuple(site["value"].shape),
        tuple((f.name, f.size) for f in plates(site)),
        float(scale if isinstance(scale, (int, float)) else scale.max()),
        "" if observed else "yes" if has_path(q.nodes[name]) else "no",
        latent,
        "observed" if observed else "auxiliary" if q.nodes[name]["infer"].get("is_auxiliary") else "yes",
    )


def _explain(pair: Pair, batch: Batch, error: Exception) -> str:
    """Why a pair does not run: a site that does not match, if it is that; else what the run said."""
    try:
        with pair.copy().scope(), rng.seeded(0), torch.no_grad(), pyro.validation_enabled(False):
            _match(pair, *pair.apart(batch))
    except BadPair as mismatch:
        return str(mismatch)
    except FAILURES:
        pass  # not even alone: the first error says more
    return (
        f"Pair {pair.name!r} does not run on this batch: {type(error).__name__}: {error}\n"
        "Model and guide are called with the same arguments; look at the shapes they expect, at to_event, and at the "
        "sizes of plates."
    )


def _family(fn: Any) -> str:
    while hasattr(fn, "base_dist"):
        fn = fn.base_dist
    return type(fn).__name__


def _quoted(names: list[str]) -> str:
    return ", ".join(map(repr, names))
