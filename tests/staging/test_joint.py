"""Parameters that are moved as one vector: bit for bit what is done to each alone."""

from __future__ import annotations

import functools

import pytest
import torch

import vbayes as vb
from tests.models import binary, small_vae
from tests.staging.test_loop import OPTIMISERS
from vbayes.staging import draw_noise, stage
from vbayes.staging.joint import SMALL, joints
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
    assert [j.names for j in joints(rules, parameters, joined=True)] == [
        ("a", "b", "c", "d"), ("empty",), ("large",), ("other rate",), ("wide",)
    ]  # fmt: skip
    assert [j.names for j in joints(rules, parameters, joined=False)] == [(name,) for name in parameters]


@pytest.mark.parametrize("given", [(), ("lr",)], ids=["", "rates given"])
@pytest.mark.parametrize("case", OPTIMISERS)
def test_a_joint_step_is_the_step(case, given):
    constructor, options = OPTIMISERS[case]
    pair, program, data = staged()
    leaves = {k: v.clone().requires_grad_() for k, v in pair.parameters.items()}
    optimizer = constructor(list(leaves.values()), **options)
    updates = Updates.of(dict.fromkeys(leaves, optimizer), leaves, moving=given)
    steps, states = updates.read()
    for number, held in enumerate(states.values()):  # numbers of a parameter's own
        if "lr" in held and not given:
            held["lr"] = held["lr"] * (1 + number)
    start = LoopState(steps, pair.parameters, states, program.buffers).flat()
    apart, joined = (
        step_of(program, updates.rules, LoopState(steps, pair.parameters, states, program.buffers), None, given, joined=each)
        for each in (False, True)
    )  # fmt: skip
    groups = joints(updates.rules, pair.parameters, joined=True)
    assert len(groups) < len(leaves) / 2
    right, found = start, start
    with vb.seeded(1), torch.no_grad():
        for _ in range(3):
            noise = [n[0] for n in draw_noise(program.sizes, 1, data)]
            rates = [torch.tensor([0.03], dtype=torch.float64)] if given else []
            *right, value, _ = apart(*right, *noise, *rates, data)
            *found, again, fine = joined(*found, *noise, *rates, data)
            assert fine and torch.equal(value, again)
            assert all(map(torch.equal, found, right)) and all(
                a.dtype == b.dtype for a, b in zip(found, right, strict=True)
            )


def test_what_is_not_finite_in_one_of_them_is_seen():
    pair, program, data = staged()
    leaves = {k: v.clone().requires_grad_() for k, v in pair.parameters.items()}
    updates = Updates.of(dict.fromkeys(leaves, torch.optim.Adam(list(leaves.values()))), leaves)
    steps, states = updates.read()
    list(states.values())[-1]["exp_avg_sq"].view(-1)[0] = torch.inf
    start = LoopState(steps, pair.parameters, states, program.buffers)
    step = step_of(program, updates.rules, start, None, joined=True)
    with vb.seeded(1), torch.no_grad():
        *_, value, fine = step(*start.flat(), *(n[0] for n in draw_noise(program.sizes, 1, data)), data)
    assert value.isfinite() and not fine
