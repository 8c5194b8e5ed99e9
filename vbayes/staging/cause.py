"""Finds out why the numbers of a captured graph differ from Pyro's, by running Pyro once more."""

from __future__ import annotations

from typing import Any

import pyro

from ..data.dataset import Batch
from ..drawing.side_by_side import other_generators
from ..pair.pair import Pair
from ..pair.watch import Watch
from ..validation import no_warnings_of_nan, validation

COMMON = "on the same noise, its graph gives different numbers than Pyro. Common reasons: a custom torch.autograd.Function, a tensor modified in place, values read out of tensors"


def cause(pair: Pair, estimator: Any, batch: Batch) -> str:
    """Names what changes from one run of model and guide to the next; if nothing does, the common reasons."""
    watch = Watch(pair.model, pair.guide)
    model, guide = pair.scaled(batch.total)
    with pair.look(0), validation(False), no_warnings_of_nan():
        before = other_generators()
        try:
            estimator.loss_and_grads(model, guide, *batch.args)
            sites: Any = pyro.poutine.trace(guide).get_trace(*batch.args).nodes.values()
        except Exception:  # anything that the model's own code raises in a second run
            return COMMON
        drawn = [
            name for name, old, new in zip(("Python", "NumPy"), before, other_generators(), strict=True) if old != new
        ]
        baselines = [
            s["name"] for s in sites if s.get("infer", {}).get("baseline", {}).get("use_decaying_avg_baseline")
        ]
    if drawn:
        return f"it draws random numbers with {drawn[0]}, which a compiled program would fix. Wanted: pyro.sample, or random numbers from torch"
    if changed := ", ".join(f"`{place.name}`" for place, _ in watch.what_changed()):
        return f"{changed} changes at each run, but a compiled program would fix it. Pass it as a tensor argument"
    if baselines:
        return f"the baseline of site {baselines[0]!r} is an average over steps, which Pyro stores separately from the parameters. Wanted: vb.RLOO(num_particles=2), or a baseline computed by a network"
    return COMMON
