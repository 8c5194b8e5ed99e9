"""Randomness enters by a seed and leaves no trace; seeds that depend on seeds don't meet."""

from __future__ import annotations

import random

import numpy as np
import pytest
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


class Cards:
    """Devices that may still be asleep, as torch's are until something is put there: what is asked of them meanwhile waits, the last seed alone."""

    def __init__(self, monkeypatch, count: int) -> None:
        self.awake, self.seed = False, 1
        self.generators = [torch.Generator() for _ in range(count)]
        for name, answer in {
            "is_available": lambda: True, "is_initialized": lambda: self.awake, "device_count": lambda: count,
            "manual_seed_all": self.seeded, "set_rng_state": lambda state, number: self.generators[number].set_state(state),
            "get_rng_state_all": lambda: [each.get_state() for each in self.generators],
        }.items():  # fmt: skip
            monkeypatch.setattr(torch.cuda, name, answer)
        monkeypatch.setattr(torch.cuda, "default_generators", self.generators)
        monkeypatch.setattr(torch.accelerator, "is_available", lambda: True)

    def seeded(self, seed: int) -> None:
        self.seed = seed
        if self.awake:
            for each in self.generators:
                each.manual_seed(seed)

    def wake(self) -> None:
        self.awake = True
        self.seeded(self.seed)

    def draw(self) -> list[float]:
        return [float(torch.rand((), generator=each)) for each in self.generators]


@pytest.mark.parametrize("inside", [False, True])
def test_a_device_that_wakes_up_later_has_the_users_own_seed(monkeypatch, inside):
    """Also where it does so inside of a block, in which it has the block's."""
    cards, state = Cards(monkeypatch, 2), torch.get_rng_state()
    torch.manual_seed(5)
    with rng.seeded(0):
        if inside:
            cards.wake()
            assert cards.generators[1].initial_seed() == 0
            cards.draw()
    if not inside:
        cards.wake()
    assert [each.initial_seed() for each in cards.generators] == [5, 5]
    first = cards.draw()
    cards.seeded(5)
    assert cards.draw() == first
    torch.set_rng_state(state)


def test_a_macs_graphics_processor_keeps_its_state(monkeypatch):
    own = torch.Generator()
    for name in ("get_state", "set_state"):
        monkeypatch.setattr(torch.mps, name.replace("state", "rng_state"), getattr(own, name))
    monkeypatch.setattr(torch.mps, "manual_seed", own.manual_seed)  # as torch.manual_seed does there
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    monkeypatch.setattr(torch.accelerator, "is_available", lambda: True)
    own.manual_seed(5)
    with rng.seeded(0):
        assert own.initial_seed() == 0
        state = rng.get_state()
    assert own.initial_seed() == 5
    with rng.continued(state):
        assert own.initial_seed() == 0
    assert own.initial_seed() == 5


@pytest.mark.parametrize("known", [None, 1, 2])
def test_a_state_goes_on_where_there_are_other_devices(monkeypatch, known):
    """What is drawn on a device is a function of the state, whether the state knows of it or not."""
    drawn = []
    for noise in (1, 2):
        with monkeypatch.context() as patched:
            cards = Cards(patched, 2)
            cards.wake()
            with rng.seeded(3):
                state = rng.get_state()
            if known is None:
                del state["cuda"]
            else:
                state["cuda"] = state["cuda"][:known]
            cards.seeded(noise)
            with rng.continued(state):
                drawn.append(cards.draw())
            assert len(state["cuda"]) == 2 and cards.generators[1].initial_seed() == noise
    assert drawn[0] == drawn[1]


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
