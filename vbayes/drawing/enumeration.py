"""The ELBO with every discrete site summed out, by Pyro."""

from __future__ import annotations

import math
from typing import Any

import pyro
import torch
from pyro.infer import TraceEnum_ELBO, config_enumerate
from pyro.infer.util import is_validation_enabled
from torch import Tensor

from ..errors import Unsuitable
from ..pair.sites import plates, sites


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
                "Neither guide nor model has a site that can be enumerated: one of finite support, each of whose values has a probability of its own (no .to_event()). "
                "Use vb.RaoBlackwell() or vb.Trace(), or hand in strict_enumeration_warning=False to go on."
            )
    elbo = TraceEnum_ELBO(max_plate_nesting=max_plate_nesting, strict_enumeration_warning=False)
    given = config_enumerate(model), config_enumerate(guide), *args
    try:
        ask = elbo.differentiable_loss if torch.is_grad_enabled() else elbo.loss
        return -torch.as_tensor(ask(*given, **kwargs))
    except (RuntimeError, ValueError, NotImplementedError) as error:
        if not is_validation_enabled():
            raise
        raise Unsuitable(
            f"Model and guide can't be enumerated: {str(error).splitlines()[0]}. Pyro gives each enumerated site a dimension of its own on "
            "the left, over which model and guide must broadcast. Use vb.RaoBlackwell() or vb.RLOO()."
        ) from error


def _can_be_enumerated(site: Any) -> bool:
    return bool(not site["is_observed"] and site["fn"].has_enumerate_support)
