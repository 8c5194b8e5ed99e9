"""One draw from a guide: the necessary runs of guide and model, and their terms."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import nullcontext
from functools import cached_property
from typing import Any, NamedTuple

import pyro
from pyro.infer.tracegraph_elbo import TrackNonReparam
from pyro.infer.util import is_validation_enabled
from pyro.poutine import Trace
from pyro.poutine.messenger import Messenger
from torch import Tensor

from ..pair.modules import buffers_stay
from ..pair.sites import Layout, Term, beyond_kl, closed_form_kls, is_point_mass, latents, sites, summed_out
from ..validation import validation
from .latents import Restore, latents_of, linear_between
from .numbers import Numbers
from .particles import Latent
from .pyros_checks import check_as_pyro
from .request import OF_NUMBERS, Request
from .summed import model_terms


class Terms(NamedTuple):
    """Log-densities and KLs, site by site; sites whose KL is in `kl` are left out of the log-densities."""

    p: list[Term]
    q: list[Term]
    kl: list[Term]


class _HoldConstant(Messenger):
    """Detaches every draw from its reparameterised path. Used outside the trace, so that the trace records the constant."""

    def _pyro_post_sample(self, msg: Any) -> None:
        if not msg["is_observed"] and isinstance(msg["value"], Tensor):
            msg["value"] = msg["value"].detach()


class Run:
    """One draw, whose parts are computed when they are first used, so that guide and model are run no more than necessary.

    Args:
        model, guide, args, kwargs: Pyro callables and their arguments.
        request: The request for the draw.
        enumeration: Keywords for `enumerated`.
    """

    def __init__(
        self,
        model: Callable[..., Any],
        guide: Callable[..., Any],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        request: Request,
        enumeration: dict[str, Any],
    ) -> None:
        self.model, self.guide, self.args, self.kwargs = model, guide, args, kwargs
        self.request, self.enumeration = request, enumeration
        # If only held-constant values are requested, no path needs to be recorded. A child then gets its parents'
        # constants, just as when the whole guide is replayed at constants.
        self.live = bool(
            request.fields & {"log_p", "log_q", "kl", "closed_form", "scored", "terms", "steps", *OF_NUMBERS}
        )

    def trace(self, fn: Callable[..., Any], replayed: Trace | None = None) -> Trace:
        """A trace of model or guide, with the values of another trace in place of draws if given."""
        fn = fn if replayed is None else pyro.poutine.replay(fn, trace=replayed)
        return pyro.poutine.trace(fn).get_trace(*self.args, **self.kwargs)

    @cached_property
    def traces(self) -> tuple[Trace, Trace]:
        """The guide's draw, and the model at it."""
        downstream = "downstream_costs" in self.request.requires
        with nullcontext() if self.live else _HoldConstant(), TrackNonReparam() if downstream else nullcontext():
            q = self.trace(self.guide)
            p = self.trace(self.model, q)
        if is_validation_enabled() and not summed_out(q, p):
            check_as_pyro(q, p)
        return q, p

    @cached_property
    def layout(self) -> Layout:
        return Layout(*self.traces)

    @cached_property
    def latents(self) -> list[tuple[Latent, Restore]]:
        q, _ = self.traces
        with buffers_stay():
            return latents_of(q, self.layout, self.request.families, lambda: self.guide(*self.args, **self.kwargs))

    @cached_property
    def numbers(self) -> Numbers:
        return Numbers(self.traces[0], self.layout, self.moved, self.terms_of_model)

    @cached_property
    def closed_form_kls(self) -> dict[str, tuple[Any, Tensor]]:
        return closed_form_kls(*self.traces)

    @cached_property
    def terms(self) -> Terms:
        q, p = self.traces
        closed = self.closed_form_kls if "kl" in self.request.needs else {}
        beyond = [beyond_kl(site, p.nodes[name], self.layout) for name, (site, _) in closed.items()]
        return Terms(
            [term for term in self.terms_of_model(q, p) if term.name not in closed] + [t for t in beyond if t],
            [Term.of(s, self.layout) for s in sites(q) if s["name"] not in closed],
            [Term(s, self.layout, kl) for s, kl in closed.values()],
        )

    def terms_of_model(self, q: Trace, p: Trace) -> list[Term]:
        """The terms of the model's run, with marginalised sites summed out."""
        return model_terms(self.model, self.args, self.kwargs, q, p, self.layout)

    @cached_property
    def traces_fixed(self) -> tuple[Trace, Trace]:
        """Traces with the draw held constant: the *whole* guide is run at it, and so is the model if needed.

        Detaching site by site would be wrong for a guide whose sites depend on each other.
        """
        q, p = self.traces
        if not self.live:
            return q, p
        constants = _with_values(q, {site["name"]: site["value"].detach() for site in sites(q)})
        with buffers_stay():
            q = self.trace(self.guide, constants)
            return q, self.trace(self.model, constants) if "log_p_fixed" in self.request.needs else p

    @cached_property
    def terms_fixed(self) -> list[Term]:
        """The terms of the guide, with its draw held constant."""
        q, _ = self.traces_fixed
        return [Term.of(s, self.layout) for s in sites(q)]

    def at(self, values: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
        """log p and log q, each (*local), at other values of the latents than drawn; they need not be in the support.

        Args:
            values: Site → value. Sites that are not given, such as the rows of a subsample, keep their draws.
        """
        with validation(False), buffers_stay(), linear_between():
            q, p = self.moved(values)
            log_p, log_q = (self.layout.total([Term.of(s, self.layout) for s in sites(t)]) for t in (p, q))
        return log_p, log_q

    def moved(self, values: Mapping[str, Tensor]) -> tuple[Trace, Trace]:
        """Runs guide and model at other values of the draws. Point masses of the guide, such as latents that an autoguide computes from its draws, follow them."""
        drawn, _ = self.traces
        given = _with_values(drawn, values)
        for site in latents(drawn):
            if is_point_mass(site["fn"]) and site["name"] not in values:
                del given.nodes[site["name"]]
        q = self.trace(self.guide, given)
        return q, self.trace(self.model, q)


def _with_values(trace: Trace, values: Mapping[str, Tensor]) -> Trace:
    """Copies a trace, with other values at some sites."""
    other = trace.copy()
    other.nodes.update({name: {**trace.nodes[name], "value": value} for name, value in values.items()})
    return other
