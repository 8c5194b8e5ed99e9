"""A program that is held against Pyro where rounding is all that is left of a number."""

from __future__ import annotations

import pyro
import pyro.distributions as dist
import pytest
import torch

import vbayes as vb
from vbayes.staging import faithful, stage

pytestmark = pytest.mark.usefixtures("double")
SEEDS = range(4)
METHOD = vb.IWAE(8)
CHANGED = {"shift": 0.0, "drift": 0.0}


def model(x):
    CHANGED["shift"] += CHANGED["drift"]
    a = pyro.sample("a", dist.Normal(torch.zeros(()), 1.0))
    b = pyro.sample("b", dist.Normal(0.9 * a + CHANGED["shift"], 0.44))
    pyro.sample("x", dist.Normal(b, 1.0), obs=x)


def guide(x):
    for name in "ab":
        loc, log_scale = (pyro.param(f"{part}.{name}", lambda: torch.zeros(())) for part in ("loc", "log_scale"))
        pyro.sample(name, dist.Normal(loc, log_scale.exp()))


def held(log_scale: float, **changes: float) -> list[bool]:
    """Whether a program of the start is taken for right with the guide at some scale, and the model changed."""
    batch = vb.Batch((torch.tensor(0.3),))
    pair = vb.Pair(model, guide).initialise(batch)
    program = stage(pair, METHOD, batch)
    pair.load({name: torch.tensor(log_scale if "scale" in name else 0.5) for name in pair.parameters})
    CHANGED.update(changes)
    try:
        return [faithful(pair, METHOD, program, batch, seed) for seed in SEEDS]
    finally:
        CHANGED.update(shift=0.0, drift=0.0)


@pytest.mark.parametrize("log_scale", [-0.5, -20.0, -30.0])
def test_a_runaway_has_not_changed(log_scale):
    assert all(held(log_scale))


def test_what_has_changed_is_seen_near_by_and_far_off():
    assert not any(held(-0.5, shift=0.01))
    assert not any(held(-0.5, drift=0.01)) and not any(held(-20.0, drift=0.1))
