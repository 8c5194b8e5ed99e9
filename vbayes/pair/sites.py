"""Properties of the sample sites of a trace: their plates, their log-densities over these, and closed-form KLs."""

from __future__ import annotations

from typing import Any, Literal

import pyro
import torch
from pyro.distributions import Delta, Unit
from pyro.distributions.util import scale_and_mask
from pyro.ops.provenance import detach_provenance, get_provenance
from torch import Tensor
from torch.distributions import TransformedDistribution, kl_divergence

from ..errors import Unsuitable

Frames = tuple[Any, ...]  # pyro.poutine.indep_messenger.CondIndepStackFrame, the vectorised ones


Kind = Literal["latent", "data", "factor", "deterministic", "subsample"]


def kind(site: Any) -> Kind:
    """The kind of a sample site: for Pyro, all sites but latents and row numbers are `is_observed`, although only data were observed."""
    if type(site["fn"]).__name__ == "_Subsample":
        return "subsample"
    if site["infer"].get("_deterministic"):
        return "deterministic"
    if isinstance(base(site["fn"]), Unit):
        return "factor"
    return "data" if site["is_observed"] else "latent"


def recorded(trace: pyro.poutine.Trace) -> list[Any]:
    """All sites of a trace, except for row numbers drawn by a subsampling plate."""
    found: list[Any] = [site for site in trace.nodes.values() if site["type"] == "sample"]
    return [site for site in found if kind(site) != "subsample"]


def sites(trace: pyro.poutine.Trace) -> list[Any]:
    """The sites with a density: latents, data and factors. A `pyro.deterministic` has none, and its plates don't matter for the others."""
    return [site for site in recorded(trace) if kind(site) != "deterministic"]


def latents(trace: pyro.poutine.Trace) -> list[Any]:
    return [site for site in recorded(trace) if kind(site) == "latent"]


def observed(trace: pyro.poutine.Trace) -> list[Any]:
    return [site for site in recorded(trace) if kind(site) == "data"]


def factors(trace: pyro.poutine.Trace) -> list[Any]:
    return [site for site in recorded(trace) if kind(site) == "factor"]


def summed_out(q: pyro.poutine.Trace, p: pyro.poutine.Trace) -> list[str]:
    """The latent sites that a model marks for enumeration and the guide lacks: they are summed out, as the model's draws of them are not from the posterior."""
    found = [site for site in sites(p) if not site["is_observed"] and site["name"] not in q]
    return [site["name"] for site in found if site["infer"].get("enumerate")]


def has_path(site: Any) -> bool:
    return site["is_observed"] or site["fn"].has_rsample


def plates(site: Any) -> Frames:
    return tuple(frame for frame in site["cond_indep_stack"] if frame.vectorized)


class Layout:
    """The plates and the scale that all sites share."""

    def __init__(self, q: pyro.poutine.Trace, p: pyro.poutine.Trace) -> None:
        every = sites(q) + sites(p)
        shared = [f for f in plates(every[0]) if all(f in plates(s) for s in every)] if every else []
        # A plate without a size has as many rows as its sites; that is not known beforehand, so it can't be a local plate.
        self.local: Frames = tuple(sorted((f for f in shared if f.size >= 0), key=lambda f: f.dim))
        scales = [s["scale"] for s in every]
        common = all(isinstance(s, (int, float)) for s in scales) and len(set(scales)) == 1
        self.scale = float(scales[0]) if common else 1.0
        # A scalar value, such as one that is conditioned on, may be on the CPU although the others are not.
        devices = [s["value"].device for s in every if isinstance(s["value"], Tensor)]
        self.device = device = next((d for d in devices if d.type != "cpu"), devices[0] if devices else None)
        self._zero = torch.zeros((), device=device, dtype=torch.get_default_dtype())

    def total(self, terms: list[Term], *, scaled: bool = True) -> Tensor:
        """(*local) Σ over the terms, each summed over its plates beyond the local ones."""
        total = self._zero.expand([f.size for f in self.local])
        for term in terms:
            total = total + self.arrange(term.sum_to(self.local, scaled=scaled)).squeeze(-1)
        return total

    def arrange(self, value: Tensor) -> Tensor:
        """(*local, own): the local plates first, everything else flattened behind."""
        rank = max([value.dim(), *(-f.dim for f in self.local)])
        value = value.expand((1,) * (rank - value.dim()) + value.shape)
        first = [rank + f.dim for f in self.local]
        value = value.permute([*first, *(d for d in range(rank) if d not in first)])
        return value.reshape(*value.shape[: len(first)], -1)


class Term:
    """A log-density or KL of one site, over its plates."""

    def __init__(self, site: Any, layout: Layout, value: Tensor) -> None:
        self.name, self.frames = site["name"], plates(site)
        # Tracks the draws that it depends on, if requested; only the plain numbers are used further.
        self.follows: frozenset[str] = get_provenance(value)
        value = scale_and_mask(detach_provenance(value), mask=site["mask"])
        if not isinstance(value, Tensor):  # a mask of False makes a plain zero
            value = torch.zeros((), device=layout.device)
        dims = {f.dim for f in self.frames}
        undeclared = [d for d in range(-value.dim(), 0) if d not in dims and value.shape[d] != 1]
        self.unscaled = value.sum(undeclared, keepdim=True) if undeclared else value
        self.scale = 1.0 if layout.scale != 1.0 else site["scale"]

    @classmethod
    def of(cls, site: Any, layout: Layout) -> Term:
        """The term of its log-density.

        Raises:
            Unsuitable: It is a flow without an inverse, evaluated at a value other than its last draw.
        """
        try:
            density = site["fn"].log_prob(site["value"], *site["args"], **site["kwargs"])
        except (KeyError, NotImplementedError):
            if not isinstance(site["fn"], TransformedDistribution):
                raise
            raise Unsuitable(
                f"Site {site['name']!r} is a flow without an inverse: its density is known only at its own draws, but is needed at a given value. Wanted: an estimator "
                "that evaluates only its own draws, such as vb.Pathwise(), or an invertible flow, such as guide='flow' or Pyro's spline_coupling."
            ) from None
        return cls(site, layout, density)

    def sum_to(self, frames: Frames, *, scaled: bool = True) -> Tensor:
        """Summed over the plates that are not among `frames`; dims are kept."""
        value = self.unscaled * self.scale if scaled else self.unscaled
        dims = [f.dim for f in self.frames if f not in frames and f.dim >= -value.dim() and value.shape[f.dim] != 1]
        return value.sum(dims, keepdim=True) if dims else value


def closed_form_kls(q: pyro.poutine.Trace, p: pyro.poutine.Trace) -> dict[str, tuple[Any, Tensor]]:
    """Site name → its guide site and KL(q‖p), if there is a closed form that is valid here.

    A site's KL may replace its sampled value only if nothing it depends on in the model was drawn from it in the
    guide; we require that the sites before it in the model do not come after it in the guide. A point mass (the sites of
    autoguides) has no KL: the one that Pyro registers omits the Jacobian of a constrained site. The KL has the guide's scale and mask; `beyond_kl` is what is missing if the model's differ.
    """
    order = {site["name"]: i for i, site in enumerate(sites(q))}
    found = {}
    before = -1
    for site in sites(p):
        name = site["name"]
        if site["is_observed"] or name not in order:
            continue
        here = order[name]
        before, earlier = max(before, here), before
        if earlier > here or is_point_mass(q.nodes[name]["fn"]):
            continue
        fn: Any = q.nodes[name]["fn"]
        try:
            kl = kl_divergence(fn, site["fn"])
        except NotImplementedError:
            continue
        if not isinstance(kl, Tensor):  # Pyro returns a number if it knows that the KL is zero
            kl = torch.full(fn.batch_shape, float(kl), device=q.nodes[name]["value"].device)
        found[name] = (q.nodes[name], kl)
    return found


def beyond_kl(ours: Any, theirs: Any, layout: Layout) -> Term | None:
    """What a site's KL, with the guide's scale and mask, leaves of the model's log-density: E_q[s log p − r log q] = (s − r) E_q[log p] − r KL(q‖p). None if they are plainly the same.

    Args:
        ours, theirs: The site in the guide's trace, and in the model's.
    """
    scales = (1.0, 1.0) if layout.scale != 1.0 else (ours["scale"], theirs["scale"])
    plain = all(isinstance(scale, (int, float)) for scale in scales)
    if ours["mask"] is theirs["mask"] and (scales[0] is scales[1] or (plain and scales[0] == scales[1])):
        return None
    density = theirs["fn"].log_prob(theirs["value"], *theirs["args"], **theirs["kwargs"])
    r, s = (
        torch.as_tensor(scale_and_mask(torch.ones_like(detach_provenance(density)), scale, site["mask"]))
        for scale, site in zip(scales, (ours, theirs), strict=True)
    )
    left = torch.where(r == s, torch.zeros_like(density), density) * (s - r)
    return Term(theirs | {"mask": None, "scale": 1.0}, layout, left)


def base(fn: Any) -> Any:
    """The distribution inside `to_event`, `expand`, `mask` and transforms."""
    while hasattr(fn, "base_dist"):
        fn = fn.base_dist
    return fn


def is_point_mass(fn: Any) -> bool:
    return isinstance(base(fn), Delta)
