"""The step in which parameters are one vector is the step."""

from __future__ import annotations

import functools

import pytest
import torch

import vbayes as vb
from tests.models import binary, small_vae
from tests.staging.test_loop import OPTIMISERS
from vbayes.staging import draw_noise, stage
from vbayes.staging.flat_step import _groups, flat_step_of
from vbayes.staging.optimizers import Updates
from vbayes.staging.step import LoopState, midway, step_of


@functools.cache
def program():
    pair = small_vae().initialise(vb.Batch((binary(12).double(),)))
    return pair, stage(pair, vb.Pathwise(), vb.Batch((binary(12).double()[:4],), 12))


def inputs(updates, pair, made):
    steps, states = updates.read()
    state = midway(LoopState(steps + 3, pair.parameters, states, made.buffers))
    with vb.seeded(1):
        normals, uniforms = draw_noise(made.sizes, 1, binary(12).double())
    return state, [normals[0], uniforms[0], torch.tensor([3, 1, 7, 2]), binary(12).double()]


@pytest.mark.parametrize("alone", [False, True], ids=["one optimiser", "one for each"])
@pytest.mark.parametrize("case", OPTIMISERS)
def test_it_is_the_step(case, alone, double):
    constructor, options = OPTIMISERS[case]
    pair, made = program()
    leaves = {k: v.clone().requires_grad_() for k, v in pair.parameters.items()}
    each = {k: constructor([v], **options) for k, v in leaves.items()}
    optimizers = each if alone else dict.fromkeys(leaves, constructor(list(leaves.values()), **options))
    updates = Updates.of(optimizers, leaves)
    state, rest = inputs(updates, pair, made)
    *right, value, finite = step_of(made, updates.rules, state, 4)(*state.flat(), *rest)
    flat = flat_step_of(made, updates.rules, state, 4)
    single = any(key in ("lr", "counted") for held in state.optimizer.values() for key in held)
    assert len(_groups(updates.rules, state, ())) == (len(leaves) if alone and single else 1)
    for going in (None, torch.tensor(True)):
        *mine, seen, on = flat(going, *state.flat(), *rest)
        assert on and finite and torch.equal(seen, value)
        for one, other in zip(mine, right, strict=True):
            torch.testing.assert_close(one, other, rtol=1e-12, atol=1e-12)
    *kept, seen, on = flat(torch.tensor(False), *state.flat(), *rest)
    assert not on and seen.isnan()
    assert all(torch.equal(one, other) for one, other in zip(kept, state.flat(), strict=True))


@pytest.mark.parametrize("going", [None, torch.tensor(True)])
def test_a_step_that_is_not_finite(going, double):
    """Guarded, it changes nothing; otherwise it is taken, as Pyro takes it."""
    pair, made = program()
    leaves = {k: v.clone().requires_grad_() for k, v in pair.parameters.items()}
    updates = Updates.of(dict.fromkeys(leaves, torch.optim.Adam(list(leaves.values()))), leaves)
    state, rest = inputs(updates, pair, made)
    rest[0] = torch.full_like(rest[0], torch.inf)
    *after, _, on = flat_step_of(made, updates.rules, state, 4)(going, *state.flat(), *rest)
    same = [torch.equal(one, other) for one, other in zip(after, state.flat(), strict=True)]
    assert not on and all(same) == (going is not None)
