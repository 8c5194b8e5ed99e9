"""Parameters that are moved as one vector: bit for bit what is done to each alone."""

from __future__ import annotations

import functools

import pytest
import torch

import vbayes as vb
from tests.models import binary, small_vae
from tests.staging.test_loop import OPTIMISERS
from vbayes.staging import draw_noise, stage
from vbayes.staging.joint import ALL, SMALL, joints
from vbayes.staging.optimizers import Updates, update_for
from vbayes.staging.step import LoopState, step_of


@functools.cache
def staged():
    """A pair of thirteen parameters, its program, and the rows that it is called with."""
    data = binary(4)
    pair = small_vae().initialise(vb.Batch((data,)))
    return pair, stage(pair, vb.Pathwise(), vb.Batch((data,), 12)), data


def adam(rate):
    return update_for(torch.optim.Adam([torch.zeros(1)], lr=rate))


def test_who_goes_together():
    shapes = {"a": (2, 3), "b": (), "empty": (0,), "c": (SMALL,), "large": (SMALL + 1,), "other rate": (2,), "d": (3,)}
    parameters = {name: torch.zeros(shape) for name, shape in shapes.items()} | {"wide": torch.zeros(2).double()}
    rules = {name: adam(0.1 if name == "other rate" else 0.2) for name in parameters}
    assert [j.names for j in joints(rules, parameters, SMALL)] == [
        ("a", "b", "c", "d"), ("empty",), ("large",), ("other rate",), ("wide",)
    ]  # fmt: skip
    assert [j.names for j in joints(rules, parameters, 0)] == [(name,) for name in parameters]


def test_one_gradient_of_two_parameters_is_that_of_each():
    """As of a sum of them, for which a trace has one node."""
    parameters = {"a": torch.zeros(3), "b": torch.zeros(3)}
    (joint,) = joints(dict.fromkeys(parameters, adam(0.1)), parameters, ALL)
    gradient, rate = torch.arange(3.0), torch.tensor(0.1)
    assert torch.equal(joint.of([gradient, gradient]), gradient.repeat(2)) and joint.of([rate, rate]) is rate


@pytest.mark.parametrize("how", ["one optimiser", "one for each", "rates given"])
@pytest.mark.parametrize("case", OPTIMISERS)
def test_a_joint_step_is_the_step(case, how):
    constructor, options = OPTIMISERS[case]
    pair, program, data = staged()
    leaves = {k: v.clone().requires_grad_() for k, v in pair.parameters.items()}
    each = {name: constructor([leaf], **options) for name, leaf in leaves.items()}
    given = ("lr",) if how == "rates given" else ()
    one = dict.fromkeys(leaves, constructor(list(leaves.values()), **options))
    updates = Updates.of(each if how == "one for each" else one, leaves, moving=given)
    steps, states = updates.read()
    for number, held in enumerate(states.values()):  # numbers of a parameter's own
        if "lr" in held and how == "one for each":
            held["lr"] = held["lr"] * (1 + number)
    state = LoopState(steps, pair.parameters, states, program.buffers)
    apart, joined, all_joined = (
        step_of(program, updates.rules, state, None, given, joined=most) for most in (0, SMALL, ALL)
    )
    assert len(joints(updates.rules, pair.parameters, SMALL)) < len(leaves) / 2
    assert len(joints(updates.rules, pair.parameters, ALL)) == 1
    right, found, told = state.flat(), state.flat(), state.flat()
    with vb.seeded(1), torch.no_grad():
        for _ in range(3):
            noise = [n[0] for n in draw_noise(program.sizes, 1, data)]
            rates = [torch.tensor([0.03], dtype=torch.float64)] if given else []
            *right, value, _ = apart(*right, *noise, *rates, data)
            *found, again, fine = joined(*found, *noise, *rates, data)
            *told, once_more, on = all_joined(*told, *noise, *rates, data, going=torch.tensor(True))
            assert fine and on and torch.equal(value, again) and torch.equal(value, once_more)
            for other in (found, told):
                assert all(map(torch.equal, other, right))
                assert all(a.dtype == b.dtype for a, b in zip(other, right, strict=True))
        *kept, value, on = all_joined(*told, *noise, *rates, data, going=torch.tensor(False))
    assert not on and value.isnan()
    assert given or all(map(torch.equal, kept, told))  # what is given is not the state's to keep


@pytest.mark.parametrize("most", [0, SMALL, ALL])
def test_what_is_not_finite_in_one_of_them_is_seen(most):
    """Where the step is told whether to go on, it then changes nothing; otherwise it is taken, as Pyro takes it."""
    pair, program, data = staged()
    leaves = {k: v.clone().requires_grad_() for k, v in pair.parameters.items()}
    updates = Updates.of(dict.fromkeys(leaves, torch.optim.Adam(list(leaves.values()))), leaves)
    steps, states = updates.read()
    list(states.values())[-1]["exp_avg_sq"].view(-1)[0] = torch.inf
    start = LoopState(steps, pair.parameters, states, program.buffers)
    step = step_of(program, updates.rules, start, None, joined=most)
    with vb.seeded(1), torch.no_grad():
        noise = [n[0] for n in draw_noise(program.sizes, 1, data)]
        *after, value, fine = step(*start.flat(), *noise, data)
        *kept, lost, on = step(*start.flat(), *noise, data, going=torch.tensor(True))
    assert value.isfinite() and not fine and not all(map(torch.equal, after, start.flat()))
    assert lost.isnan() and not on and all(map(torch.equal, kept, start.flat()))
