"""The ELBO with every discrete site summed out, by Pyro."""

from __future__ import annotations

import math
from typing import Any

import pyro
import torch
from pyro.infer import TraceEnum_ELBO, config_enumerate
from pyro.infer.util import is_validation_enabled
from torch import Tensor

from .. import rng
from ..errors import Unsuitable
from ..pair.sites import kind, plates, sites

NOTHING_TO_DIFFERENTIATE = "cannot be differentiated"  # the beginning of Pyro's message


def enumerated(
    model: Any,
    guide: Any,
    args: Any,
    kwargs: Any,
    *,
    max_plate_nesting: float = math.inf,
    strict_enumeration_warning: bool = True,
) -> Tensor:
    """() the ELBO for all data by Pyro, with all that can be enumerated enumerated."""
    if max_plate_nesting == math.inf:
        q = pyro.poutine.trace(guide).get_trace(*args, **kwargs)
        p = pyro.poutine.trace(pyro.poutine.replay(model, trace=q)).get_trace(*args, **kwargs)
        every = sites(q) + sites(p)
        max_plate_nesting = max((-frame.dim for site in every for frame in plates(site)), default=0)
        if strict_enumeration_warning and not any(_can_be_enumerated(site) for site in every):
            raise Unsuitable(
                "Neither guide nor model has a site that can be enumerated: one with finite support and a probability for each value (no .to_event()). "
                "Use vb.RaoBlackwell() or vb.Trace(), or pass strict_enumeration_warning=False to continue."
            )
    elbo = TraceEnum_ELBO(max_plate_nesting=max_plate_nesting, strict_enumeration_warning=False)
    given = config_enumerate(model), config_enumerate(guide), *args
    try:
        return -torch.as_tensor(_loss(elbo, given, kwargs))
    except (RuntimeError, ValueError, NotImplementedError) as error:
        if not is_validation_enabled():
            raise
        reason = " ".join(line.strip() for line in str(error).partition("Trace Shapes")[0].splitlines()).strip(". ")
        raise Unsuitable(
            f"Model and guide can't be enumerated: {reason}. Pyro gives each enumerated site its own dimension on "
            "the left, over which model and guide must broadcast. Use vb.RaoBlackwell() or vb.RLOO()."
        ) from error


def _loss(elbo: TraceEnum_ELBO, given: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Minus the ELBO; if nothing in it is differentiable, which is an error in Pyro, a plain number at the same draw."""
    if not torch.is_grad_enabled():
        return elbo.loss(*given, **kwargs)
    here = rng.get_state()
    try:
        return elbo.differentiable_loss(*given, **kwargs)
    except ValueError as error:
        if NOTHING_TO_DIFFERENTIATE not in str(error):
            raise
    rng.set_state(here)
    return elbo.loss(*given, **kwargs)


def _can_be_enumerated(site: Any) -> bool:
    return bool(kind(site) == "latent" and site["fn"].has_enumerate_support)
