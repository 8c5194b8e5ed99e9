"""In which order guide and model go through their sites, and where between them particles can be weighed."""

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
    """Names of sites: what the guide draws, and how far the model goes at it."""

    drawn: list[str]
    reached: list[str]


def steps_of(q: Trace, p: Trace) -> list[Stretch]:
    """The sites of a run, cut wherever the model has a latent after data, and the guide has by then drawn the latents that the model had before, and no others.

    A guide that goes another way, as one that draws the last state of a series first, has fewer steps, down to one.

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
    """Those of a step, without the leading K: latents as the guide has them, then the rest as the model has it."""
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
    """(*local, own) a site's value; nothing where it is a number, or a factor has none."""
    value, fn = site["value"], site["fn"]
    if not isinstance(value, Tensor) or not value.numel():
        return layout.total([]).unsqueeze(-1)[..., :0]
    events = value.shape[value.dim() - fn.event_dim :]
    whole = value.expand(torch.broadcast_shapes(value.shape, fn.batch_shape + events))
    return as_rows(layout, whole, fn.event_dim)[0](whole)
