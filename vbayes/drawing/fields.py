"""The fields of `Particles` for one draw: a function for each field, and a table of these."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pyro
import torch
from pyro.ops.provenance import get_provenance
from torch import Tensor

from ..errors import Unsuitable
from ..pair.modules import buffers_stay
from ..pair.sites import Term, base, has_path, is_point_mass, latents, sites
from .enumeration import enumerated
from .latents import Followed
from .numbers import Numbers
from .order import site_terms, steps_of
from .particles import Latent, ScoredSite, SiteTerm
from .run import Run
from .simulation import sleep_log_q


def log_p_fixed(run: Run) -> Tensor:
    return run.layout.total(run.terms_of_model(*run.traces_fixed))


class PointMass(Unsuitable):
    """A guide has no density at some site, and therefore no score."""


def score(run: Run) -> Tensor:
    _no_moving_points(run)
    return run.layout.total(run.terms_fixed, scaled=False)


def _no_moving_points(run: Run) -> None:
    q, _ = run.traces_fixed
    if moving := [s["name"] for s in latents(q) if _moves_a_point(s)]:
        points = [name for name in moving if name not in _computed(run)]
        kind: type[Unsuitable] = PointMass
        why = f"puts a point mass with parameters at {', '.join(map(repr, points))}"
        if not points:
            kind, why = Unsuitable, f"computes {', '.join(map(repr, moving))} from auxiliary draws and parameters"
        raise kind(
            f"The guide {why}: it has no score function there, so this estimator would never move it. Use vb.Trace() or vb.Pathwise()."
        )


def _computed(run: Run) -> set[str]:
    """The point masses of a guide that lie where another draw puts them, as those of `AutoStructured`: the guide has a density all the same."""
    with Followed(), buffers_stay():
        q = pyro.poutine.trace(run.guide).get_trace(*run.args, **run.kwargs)
    return {s["name"] for s in latents(q) if is_point_mass(s["fn"]) and get_provenance(base(s["fn"]).v)}


def _moves_a_point(site: Any) -> bool:
    return is_point_mass(site["fn"]) and base(site["fn"]).v.requires_grad


def scored(run: Run) -> tuple[ScoredSite, ...]:
    q, _ = run.traces
    return tuple(_scored(site, run) for site in sites(q) if not has_path(site))


def _scored(site: Any, run: Run) -> ScoredSite:
    """A site's score, and its cost: the terms within its own plates (as in Pyro's `Trace_ELBO`), or only those among them that depend
    on the draw (as in `TraceGraph_ELBO`).
    """
    layout, terms = run.layout, run.terms
    own = Term.of(site, layout)
    downstream = "downstream_costs" in run.request.requires

    def cost_in(terms: list[Term]) -> Any:
        return sum(t.sum_to(own.frames) for t in terms if not downstream or own.name in t.follows)

    here = own.unscaled.device
    cost = torch.as_tensor(cost_in(terms.p) - cost_in(terms.q) - cost_in(terms.kl), device=here).detach()
    drawn = own.scale if any(t.name == own.name for t in terms.q) else 0.0
    scale = torch.as_tensor(drawn, dtype=cost.dtype, device=here)
    arranged = (layout.arrange(t) for t in torch.broadcast_tensors(own.unscaled, cost, scale))
    return ScoredSite(own.name, *arranged)


def weigh(run: Run) -> Callable[[Sequence[Tensor]], tuple[Tensor, Tensor]]:
    found = run.latents

    def weigh(values: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        return run.at({latent.name: restore(value) for (latent, restore), value in zip(found, values, strict=True)})

    return weigh


def asleep(run: Run) -> Tensor:
    _, p = run.traces
    return sleep_log_q(run.model, run.guide, run.args, run.kwargs, p, run.layout)


def drawn_latents(run: Run) -> tuple[Latent, ...]:
    _no_moving_points(run)
    return tuple(latent for latent, _ in run.latents)


def terms(run: Run) -> tuple[SiteTerm, ...]:
    return tuple(term for step in steps_of(*run.traces) for term in site_terms(step, *run.traces, run.layout))


def numbers(run: Run) -> Numbers:
    _no_moving_points(run)
    return run.numbers


FIELDS: dict[str, Callable[[Run], Any]] = {
    "enumerated": lambda run: enumerated(run.model, run.guide, run.args, run.kwargs, **run.enumeration),
    "scale": lambda run: run.layout.scale,
    "local": lambda run: tuple(frame.size for frame in run.layout.local),
    "latents": drawn_latents,
    "weigh": weigh,
    "closed_form": lambda run: tuple(run.closed_form_kls),
    "log_p": lambda run: run.layout.total(run.terms.p),
    "log_q": lambda run: run.layout.total(run.terms.q),
    "kl": lambda run: run.layout.total(run.terms.kl),
    "scored": scored,
    "terms": terms,
    "log_q_fixed": lambda run: run.layout.total(run.terms_fixed),
    "score": score,
    "log_p_fixed": log_p_fixed,
    "sleep_log_q": asleep,
    "z": lambda run: numbers(run).z,
    "densities": lambda run: numbers(run).at,
    "score_p": lambda run: numbers(run).scores[0],
    "score_q": lambda run: numbers(run).scores[1],  # last, as the layers of a flow cache another run afterwards
}
"""Field of `Particles` → function that computes it from one draw, without the leading K. Fields are computed in this order, in which guide and model are run. Only `steps` is missing, as
its particles depend on each other: see `vbayes.drawing.in_steps`."""
