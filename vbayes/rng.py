"""Randomness enters by a seed and leaves no trace."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch

from .turns import TURN


def get_state() -> dict[str, Any]:
    """The state of every global generator: Python's, NumPy's, torch's on CPU and on each CUDA device in use."""
    state = {"torch": torch.get_rng_state(), "random": random.getstate(), "numpy": np.random.get_state()}
    if torch.cuda.is_available() and torch.cuda.is_initialized():
        state["cuda"] = torch.cuda.get_rng_state_all()
    return state


def set_state(state: dict[str, Any]) -> None:
    """Puts back what `get_state` took."""
    torch.set_rng_state(state["torch"])
    random.setstate(state["random"])
    np.random.set_state(state["numpy"])
    if "cuda" in state:
        torch.cuda.set_rng_state_all(state["cuda"])


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Everything random inside is a function of `seed`; outside, nothing has happened. Other threads wait for their turn.

    Args:
        seed: Any integer ≥ 0; 32 bits of it reach NumPy.

    Examples:
        >>> with seeded(0): a = torch.randn(3)
        >>> with seeded(0): b = torch.randn(3)
        >>> torch.equal(a, b)
        True
    """
    with TURN:
        before = get_state()
        try:
            torch.manual_seed(seed % 2**32)
            random.seed(seed % 2**32)
            np.random.seed(seed % 2**32)
            yield
        finally:
            set_state(before)


@contextmanager
def continued(state: dict[str, Any]) -> Iterator[None]:
    """Goes on from a saved state; `state` is updated to where the block left off."""
    with TURN:
        before = get_state()
        try:
            set_state(state)
            yield
            state.update(get_state())
        finally:
            set_state(before)


def stream(*path: int, device: str | torch.device = "cpu") -> torch.Generator:
    """A generator whose draws are a function of some integers, and have nothing to do with those of any others.

    Args:
        path: A seed, and which of the streams that hang on it.
        device: Where it draws.

    References:
        The mixing function is SplitMix64's: Steele, Lea & Flood 2014, doi:10.1145/2660193.2660195.
    """
    state = 0
    for number in path:
        state = (state ^ number % 2**64) + 0x9E3779B97F4A7C15
        state = (state ^ state >> 30) * 0xBF58476D1CE4E5B9 % 2**64
        state = (state ^ state >> 27) * 0x94D049BB133111EB % 2**64
        state ^= state >> 31
    return torch.Generator(device).manual_seed(state >> 1)


def child(seed: int, *path: int) -> int:
    """A seed that hangs on another: a function of the integers, and of no others. Seeds that were counted up would meet: the second of seed 0 would
    be the first of seed 1.
    """
    return stream(seed, *path).initial_seed() % 2**32


def children(seed: int, count: int) -> list[int]:
    """Seeds of several runs of one thing: the first has the seed itself, so that one alone is what it always was, and each of the others a `child`."""
    return [seed, *(child(seed, number) for number in range(1, count))][:count]
