"""Other initial values for a pair: where several fits of it start."""

from __future__ import annotations

import copy
from typing import Any

import pyro
import torch
from pyro.infer.autoguide import AutoGuide
from torch import Tensor

from .. import rng
from ..data.dataset import Batch
from ..guides import Whitened
from ..validation import validation
from .pair import Pair

WIDTH = 2.0  # half-width of the interval from which Stan draws initial values, in unconstrained space


def another_start(pair: Pair, batch: Batch, seed: int, number: int = 0) -> Pair:
    """Copies a pair with new initial values, each drawn in the same way as the first time.

    Modules draw by their `reset_parameters`, autoguides by their `init_loc_fn`, functions by the values that they pass to `pyro.param`. A
    parameter that starts at a constant starts there again, except for an autoguide's location, which is then shifted by a uniform draw
    from (−2, 2); for a guide chosen by name, in units of its widths, around each of the modes that its search found, in turn. Values are drawn on the device where the pair's first ones were made, and then moved, so they are the same on every device.

    Args:
        pair: An initialised pair.
        batch: The arguments that model and guide are called with.
        seed: Seed for the draws.
        number: Number of the start, of which the pair's own is 0.
    """
    here, home = pair.device, pair.home
    twin = pair.copy()
    if home is not None:
        twin, batch = twin.to(home), batch.to(home)
    with twin.scope(), rng.seeded(seed), torch.no_grad():
        held = {id(module) for module in twin._own.held}  # an estimator's memory is initialised by the estimator
        parts = [part for module in twin.modules if id(module) not in held for part in module.modules()]
        for part in parts:
            if callable(reset := getattr(part, "reset_parameters", None)):
                reset()
    before = twin.parameters
    fresh = _created(twin, batch, seed)
    fresh = {k: v for k, v in fresh.items() if k in before and v.shape == before[k].shape}
    if isinstance(pair.guide, AutoGuide):
        with rng.seeded(seed):
            for name in sorted(fresh):
                if pair.is_real(name) and torch.equal(fresh[name], before[name]):
                    fresh[name] += WIDTH * (2 * torch.rand_like(fresh[name]) - 1)
    if isinstance(guide := twin.guide, Whitened) and guide.places and guide.places.others:
        modes = (guide.places.best, *guide.places.others)
        if (place := modes[number % len(modes)]) is not modes[0]:
            fresh[f"{guide._pyro_name}.loc"] += guide.away(place)
    twin.load(fresh)
    return twin if here is None else twin.to(here)


def _created(pair: Pair, batch: Batch, seed: int) -> dict[str, Tensor]:
    """The parameters that functions and autoguides create in an empty store, by name."""
    twin = pair.copy()
    store = pyro.get_param_store()
    guide: Any = pair.guide
    with twin.scope(), store.scope(), rng.seeded(seed), torch.no_grad(), validation(False):
        store.clear()
        owned = {id(p) for module in twin.modules for p in module.parameters()}
        if isinstance(guide, AutoGuide):
            guide = _forgetful(guide)
        Pair(pair.model, guide).run(batch)
        return {k: v.detach().clone() for k, v in store.get_state()["params"].items() if id(v) not in owned}


def _forgetful(guide: AutoGuide) -> AutoGuide:
    """A copy of an autoguide that will initialise itself again."""
    parts = [part for part in guide.modules() if isinstance(part, AutoGuide)]
    held = [(part._model, part.master) for part in parts]
    twin = copy.deepcopy(guide)  # which removes model and master from both
    twins = (part for part in twin.modules() if isinstance(part, AutoGuide))
    for part, mine, (model, master) in zip(parts, twins, held, strict=True):
        part._model, part.master = model, master
        mine._model, mine.prototype_trace = model, None
    return twin
