"""The next guide to try if the draws of one are not good enough."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from pyro.infer.autoguide import (
    AutoContinuous,
    AutoDelta,
    AutoDiagonalNormal,
    AutoGuide,
    AutoLaplaceApproximation,
    AutoLowRankMultivariateNormal,
    AutoNormal,
    AutoNormalizingFlow,
)

from .auto import Auto
from .diagonal import Diagonal
from .flow import Flow
from .low_rank import LowRank
from .point import Point
from .starts import BENT
from .whitened import Whitened

NUTS = "mcmc = pyro.infer.MCMC(pyro.infer.NUTS(model), num_samples=1000, warmup_steps=1000); mcmc.run(*data)"
LAST = f"draw by NUTS instead, which takes no guide: {NUTS}"
PLAIN = "use a richer guide: vb.fit(model, data) makes one"


def richer(guide: Any, tried: Collection[str] = ()) -> str:
    """What to do if a guide is not good enough, including what to type; empty for a user-defined guide, whose kind is unknown.

    Args:
        guide: A guide chosen by name or one of Pyro's, which has been called.
        tried: What `guide="auto"` has tried: "normal", "flow".
    """
    if isinstance(guide, Point | AutoDelta | AutoLaplaceApproximation):
        return PLAIN
    if not isinstance(guide, AutoGuide):
        return ""
    size = _size(guide)
    if (
        "flow" in tried or size == 1 or isinstance(guide, Flow | AutoNormalizingFlow)
    ):  # with one latent a flow is a normal
        return LAST
    few = size is None or size <= BENT
    if isinstance(guide, Diagonal | AutoNormal | AutoDiagonalNormal):
        word = "full" if few else "low_rank"
    elif isinstance(guide, LowRank | AutoLowRankMultivariateNormal) and not isinstance(guide, Auto) and few:
        word = "full"
    elif isinstance(guide, AutoContinuous):
        word = "flow"
    else:
        return ""
    return f"use a richer guide: vb.fit(model, data, guide={word!r})"


def _size(guide: Any) -> int | None:
    """Number of dimensions that it draws; None if unknown."""
    if isinstance(guide, Whitened):
        return len(guide.centre)
    if isinstance(guide, AutoNormal) and hasattr(guide, "locs"):
        return sum(loc.numel() for loc in guide.locs.parameters())
    return getattr(guide, "latent_dim", None)
