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
    """log p(x, z) and log q(z|x) at given values of the latents, which are held constant: gradients reach only the parameters.

    Model and guide are run as a whole, which is correct for guides whose sites depend on each other. Point masses, as in autoguides,
    compute their own value. Sites that the model sums out are summed out.

    Args:
        model, guide, args: Model and guide, and their arguments.
        values: Site of the guide → its value, in the site's own shape.

    Returns:
        Each (*local): log p and log q as in `Particles` (masks and scales applied, but not the common minibatch scale); and log of
        the density from which the guide draws, without masks and scales.
    """
    q, p, shared = run_at(model, guide, args, values)
    log_p, log_q = shared.total(model_terms(model, args, {}, q, p, shared)), guide_density(q, shared)
    return log_p, log_q, drawing_density(q, shared, values)


def guide_density(q: pyro.poutine.Trace, shared: Layout) -> Tensor:
    """(*local) log q of a guide's run, masks and scales applied."""
    return shared.total([Term.of(s, shared) for s in sites(q)])


def drawing_density(q: pyro.poutine.Trace, shared: Layout, values: Mapping[str, Tensor]) -> Tensor:
    """(*local) log of the density from which a guide draws some sites, without masks and scales."""
    drawn = [s for s in sites(q) if s["name"] in values]
    return shared.total([Term({**s, "mask": None, "scale": 1.0}, shared, s["fn"].log_prob(s["value"])) for s in drawn])


def flow(
    model: Callable[..., Any],
    guide: Callable[..., Any],
    args: tuple[Any, ...],
    values: Mapping[str, Tensor],
    volumes: Mapping[str, Tensor],
) -> tuple[Tensor, Tensor]:
    """log p and log q, each (*local), as densities of the numbers that the latents were computed from; differentiable in the values.

    Their difference equals that of `densities`, whatever transforms the guide uses.

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
    """Runs guide and model with given values in place of draws, and returns the runs and their plates; sites without a value are drawn."""
    with Given(values):
        q = pyro.poutine.trace(guide).get_trace(*args)
    p = pyro.poutine.trace(pyro.poutine.replay(model, trace=q)).get_trace(*args)
    return q, p, Layout(q, p)
