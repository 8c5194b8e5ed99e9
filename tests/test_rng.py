"""Randomness enters by a seed and leaves no trace; seeds that depend on seeds don't meet."""

from __future__ import annotations

import random

import numpy as np
import torch

from vbayes import rng


def drawn() -> tuple[float, float, float]:
    return random.random(), float(np.random.rand()), float(torch.rand(()))


def test_inside_all_follows_from_the_seed_and_outside_nothing_has_happened():
    state = rng.get_state()
    expected = drawn()
    rng.set_state(state)
    with rng.seeded(3):
        first = drawn()
    with rng.seeded(3):
        assert drawn() == first
    assert drawn() == expected
    rng.set_state(state)


def test_a_state_goes_on():
    with rng.seeded(0):
        state = rng.get_state()
        whole = [drawn(), drawn()]
    parts = []
    for _ in range(2):
        with rng.continued(state):
            parts.append(drawn())
    assert parts == whole


def test_children_of_seeds_do_not_meet():
    """Counted up they would: the second run of seed 0 would be the first of seed 1."""
    every = [seed for parent in range(50) for seed in rng.children(parent, 20)[1:]]
    assert len(set(every)) == len(every) and not set(every) & set(range(100))
    assert rng.children(7, 3) == [7, rng.child(7, 1), rng.child(7, 2)] and rng.children(7, 0) == []
    assert len({rng.child(0), rng.child(0, 0), rng.child(0, 0, 0), rng.child(0, 1), rng.child(1, 0)}) == 5


def test_streams_are_what_they_always_were():
    """The mixing function is integer arithmetic: the same on every machine. Resumed fits rely on it."""
    assert (
        rng.stream(0, 1, 2).initial_seed() == rng.stream(0, 1, 2).initial_seed() != rng.stream(0, 2, 1).initial_seed()
    )
    assert [rng.child(0, 1), rng.child(5, 2, 9)] == [1670684067, 3970992301]
