"""The pairs whose every expectation can be summed out, with their data, and estimators small enough for that."""

from __future__ import annotations

import pyro
import torch

import vbayes as vb
from vbayes.pairs import TRACTABLE

X = torch.tensor([-0.5, 2.0], dtype=torch.float64)
PAIRS = {name: known for name, known in TRACTABLE.items() if name != "state_space"}  # gaussian_chain has such a guide


def batch_of(name: str) -> vb.Batch:
    return TRACTABLE[name].batch()


def pair_of(name: str) -> vb.Pair:
    """At parameters without symmetry."""
    pair = TRACTABLE[name].pair()
    with vb.seeded(5):
        return pair.load({k: v + 0.2 * torch.randn_like(v) for k, v in pair.parameters.items()})


def table_of(name: str, pair: vb.Pair) -> vb.Table:
    return vb.tabulate(pair, batch_of(name))


def small(name: str) -> vb.Estimator:
    """With two particles where it has several: its bound is then a sum over pairs of nodes."""
    kind = vb.ESTIMATORS[name]
    return kind(num_particles=2) if kind().num_particles > 1 else kind()


def suits(estimator: vb.Estimator, pair: vb.Pair, batch: vb.Batch) -> bool:
    """Whether an estimator can work on a pair; it says so when it draws."""
    try:
        with pair.initialise(batch).scope(), vb.seeded(0):
            estimator.draw(pair, batch)
    except vb.errors.Unsuitable:
        return False
    return True


def roles(pair: vb.Pair, batch: vb.Batch) -> dict[str, set[str]]:
    """ "model" and "guide" → the parameters that run there; a parameter of both is in both."""
    found = {}
    for role, fn in (("model", pair.model), ("guide", pair.guide)):
        with pair.scope(), vb.seeded(0), pyro.poutine.trace(param_only=True) as seen:
            q = pyro.poutine.trace(pair.guide).get_trace(*batch.args)
            if fn is pair.model:
                seen.trace.nodes.clear()
                pyro.poutine.replay(fn, trace=q)(*batch.args)
            found[role] = {n for n, site in seen.trace.nodes.items() if site["type"] == "param"}
    return found
