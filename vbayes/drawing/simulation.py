"""Data that a model makes, in the shape of those it is called with."""

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
    """Data that the model has made, and what it made them from.

    Attributes:
        batch: With the data in place of those given.
        made: The run of the model.
    """

    batch: Batch
    made: pyro.poutine.Trace


def simulate(pair: Pair, batch: Batch, seed: int, mend: str = "Use method='ais'") -> Simulated:
    """Data in the shape of a batch.

    Args:
        pair, batch, seed: As elsewhere.
        mend: What to do where that can't be, in words.

    Raises:
        Unsuitable: An observed site takes its data from something made of an argument, which can't be replaced; or a `pyro.factor` weighs
            what the model makes, so that its draws are not of the joint density that it scores.
    """
    with pair.scope(), torch.no_grad(), validation(False), rng.seeded(seed):
        made = pair.generate(batch)
        seen = pyro.poutine.trace(pair.model).get_trace(*batch.args)
    return Simulated(Batch(_in_place_of(batch.args, seen, made, mend)), made)


def _in_place_of(
    args: tuple[Any, ...], seen: pyro.poutine.Trace, made: pyro.poutine.Trace, mend: str
) -> tuple[Any, ...]:
    """Arguments with what was made, in a run without observations, where the data were that a run has seen."""
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
    """(*local) log q of latents that the model draws, given the data that it makes of them; both are held constant.

    Args:
        seen: The model's run on the data.
        layout: Of the plates.
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
