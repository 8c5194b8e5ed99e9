"""Simulates data from a model, in the shape of the data that it is called with."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pyro
import torch
from torch import Tensor

from .. import rng
from ..data.dataset import Batch
from ..errors import Unsuitable
from ..pair.generation import forgetful
from ..pair.pair import Pair
from ..pair.sites import Layout, Term, factors, observed, sites
from ..validation import validation


@dataclass(frozen=True)
class Simulated:
    """Simulated data, and the run that generated them.

    Attributes:
        batch: The batch with simulated data in place of the given ones.
        made: The run of the model.
    """

    batch: Batch
    made: pyro.poutine.Trace


def simulate(pair: Pair, batch: Batch, seed: int, mend: str = "Use method='ais'") -> Simulated:
    """Simulates data in the shape of a batch.

    Args:
        pair, batch, seed: As elsewhere.
        mend: What to do if that is impossible, for the error message.

    Raises:
        Unsuitable: An observed site's data are computed from an argument, so they can't be replaced; or a `pyro.factor` reweights
            the model, so that its draws are not from its joint density.
    """
    with pair.scope(), torch.no_grad(), validation(False), rng.seeded(seed):
        made = pair.generate(batch)
        seen = pyro.poutine.trace(pair.model).get_trace(*batch.args)
    return Simulated(Batch(_in_place_of(batch.args, seen, made, mend)), made)


def _in_place_of(
    args: tuple[Any, ...], seen: pyro.poutine.Trace, made: pyro.poutine.Trace, mend: str
) -> tuple[Any, ...]:
    """The arguments, with the data of one run replaced by the draws of a run without observations."""
    if weighing := factors(seen):
        raise Unsuitable(
            f"Site {weighing[0]['name']!r} of the model is a pyro.factor: it reweights what the model draws, so simple draws would not be from the "
            f"model. {mend}, or write the factor as pyro.sample(..., obs=...)."
        )
    found = list(args)
    for site in observed(seen):
        which = [i for i, a in enumerate(args) if isinstance(a, Tensor) and a is site["value"]]
        if not which:
            raise Unsuitable(
                f"The data of site {site['name']!r} are not passed to the model as an unmodified argument, so simulated data can't replace them. "
                f"{mend}, or write obs=x, where x is an argument of the model."
            )
        found[which[0]] = made.nodes[site["name"]]["value"]
    return tuple(found)


def sleep_log_q(
    model: Callable[..., Any],
    guide: Callable[..., Any],
    args: tuple[Any, ...],
    kwargs: Any,
    seen: pyro.poutine.Trace,
    layout: Layout,
) -> Tensor:
    """(*local) log q of latents drawn by the model, given the data that it generates from them; both are held constant.

    Args:
        seen: The model's run on the data.
        layout: Layout of the plates.
    """
    with torch.no_grad():
        made = pyro.poutine.trace(forgetful(model)).get_trace(*args, **kwargs)
        instead = _in_place_of(args, seen, made, "Use vb.WakeSleep()")
    q = pyro.poutine.trace(pyro.poutine.replay(guide, trace=made)).get_trace(*instead, **kwargs)
    for site in sites(q):
        if site["name"] not in made:
            raise Unsuitable(
                f"Site {site['name']!r} of the guide is not one of the model's latents, so it can't be trained on the model's draws. Use vb.WakeSleep()."
            )
    return layout.total([Term.of(site, layout) for site in sites(q)])
