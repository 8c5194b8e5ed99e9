"""The order in which guide and model visit their sites, and the points at which particles can be weighted."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import torch
from pyro.poutine import Trace
from torch import Tensor

from ..pair.sites import Layout, Term, sites
from .latents import as_rows
from .particles import SiteTerm


class Stretch(NamedTuple):
    """Names of the sites of one step: those that the guide draws, and those that the model visits."""

    drawn: list[str]
    reached: list[str]


def steps_of(q: Trace, p: Trace) -> list[Stretch]:
    """The sites of a run, split wherever the model has a latent after data, and the guide has by then drawn exactly those latents that come before it in the model.

    A guide with another order, such as one that draws the last state of a series first, has fewer steps, possibly only one.

    Args:
        q, p: A run of the guide, and of the model at it.
    """
    guide, model = ([site["name"] for site in sites(trace)] for trace in (q, p))
    common = [name for name in guide if name in p]
    ends, before = [], 0
    for here, name in enumerate(model):
        if name not in common:
            continue
        after_data = here > 0 and model[here - 1] not in common
        if after_data and before and set(common[:before]) == {n for n in model[:here] if n in common}:
            ends.append((guide.index(common[before - 1]) + 1, here))
        before += 1
    found, drawn, reached = [], 0, 0
    for end in [*ends, (len(guide), len(model))]:
        found.append(Stretch(guide[drawn : end[0]], model[reached : end[1]]))
        drawn, reached = end
    return found


def site_terms(step: Stretch, q: Trace, p: Trace, layout: Layout) -> Iterator[SiteTerm]:
    """The terms of a step, without the leading K: latents in the guide's order, then the rest in the model's order."""
    reached = set(step.reached)
    for name in [*step.drawn, *(name for name in step.reached if name not in step.drawn)]:
        of_q, of_p = name in step.drawn, name in reached
        site = (q if of_q else p).nodes[name]
        log_p, log_q = (
            layout.total([Term.of(trace.nodes[name], layout)] if there else [])
            for trace, there in ((p, of_p), (q, of_q))
        )
        yield SiteTerm(name, not of_q, log_p, log_q, _value(site, layout))


def _value(site: Any, layout: Layout) -> Tensor:
    """(*local, own) a site's value; empty, (*local, 0), if it is a plain number, and for a factor, which has none."""
    value, fn = site["value"], site["fn"]
    if not isinstance(value, Tensor) or not value.numel():
        return layout.total([]).unsqueeze(-1)[..., :0]
    events = value.shape[value.dim() - fn.event_dim :]
    whole = value.expand(torch.broadcast_shapes(value.shape, fn.batch_shape + events))
    return as_rows(layout, whole, fn.event_dim)[0](whole)
