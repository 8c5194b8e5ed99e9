"""Model and guide as densities at given values of the latents."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import pyro
from torch import Tensor

from ..pair.sites import Layout, Term, sites
from .given import Given
from .summed import model_terms


def densities(
    model: Callable[..., Any], guide: Callable[..., Any], args: tuple[Any, ...], values: Mapping[str, Tensor]
) -> tuple[Tensor, Tensor, Tensor]:
    """log p(x, z) and log q(z|x) at given values of the latents, which are constants: gradients reach the parameters alone.

    Model and guide are run as a whole, so a guide whose sites depend on each other is right. Point masses, as autoguides have
    them, are left to compute their own value. What the model sums out is summed out.

    Args:
        model, guide, args: And what they are called with.
        values: Site of the guide → its value, in the site's own shape.

    Returns:
        Each (*local): log p and log q as in `Particles` (masks and scales applied, but not the common minibatch scale); and log of
        the density by which the guide draws, which knows neither masks nor scales.
    """
    q, p, shared = run_at(model, guide, args, values)
    log_p, log_q = shared.total(model_terms(model, args, {}, q, p, shared)), guide_density(q, shared)
    return log_p, log_q, drawing_density(q, shared, values)


def guide_density(q: pyro.poutine.Trace, shared: Layout) -> Tensor:
    """(*local) log q of a guide's run, masks and scales applied."""
    return shared.total([Term.of(s, shared) for s in sites(q)])


def drawing_density(q: pyro.poutine.Trace, shared: Layout, values: Mapping[str, Tensor]) -> Tensor:
    """(*local) log of the density by which a guide draws some sites, which knows neither masks nor scales."""
    drawn = [s for s in sites(q) if s["name"] in values]
    return shared.total([Term({**s, "mask": None, "scale": 1.0}, shared, s["fn"].log_prob(s["value"])) for s in drawn])


def flow(
    model: Callable[..., Any],
    guide: Callable[..., Any],
    args: tuple[Any, ...],
    values: Mapping[str, Tensor],
    volumes: Mapping[str, Tensor],
) -> tuple[Tensor, Tensor]:
    """log p and log q, each (*local), as densities of the numbers that the latents were made from; live in the values.

    Their difference is that of `densities`, whatever maps the guide itself has on the way.

    Args:
        model, guide, args, values: As for `densities`.
        volumes: Site of the guide → log |∂ value / ∂ number|, over its plates.
    """
    q, p, shared = run_at(model, guide, args, values)
    drawn = [s for s in sites(q) if s["name"] in values]
    density = shared.total(
        [
            Term({**s, "mask": None, "scale": 1.0}, shared, s["fn"].log_prob(s["value"]) + volumes[s["name"]])
            for s in drawn
        ]
    )
    log_p, log_q = shared.total(model_terms(model, args, {}, q, p, shared)), guide_density(q, shared)
    return (log_p - log_q) * shared.scale + density, density


def run_at(
    model: Callable[..., Any], guide: Callable[..., Any], args: tuple[Any, ...], values: Mapping[str, Tensor]
) -> tuple[pyro.poutine.Trace, pyro.poutine.Trace, Layout]:
    """Guide and model run with given values in place of draws, and their plates; what has no value is drawn."""
    with Given(values):
        q = pyro.poutine.trace(guide).get_trace(*args)
    p = pyro.poutine.trace(pyro.poutine.replay(model, trace=q)).get_trace(*args)
    return q, p, Layout(q, p)
