"""Random numbers: seeded, without side effects on global generators; and a lock for state that a process has only once."""

from __future__ import annotations

import random
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from typing import Any, ParamSpec, TypeVar

import numpy as np
import torch

from .arguments.takes import takes
from .errors import VBayesError

P = ParamSpec("P")
R = TypeVar("R")

LOOKS = 3  # consecutive checks, a second apart, at which the holder of the lock waits for threads
WAITING = ("threading.py", "joblib", "concurrent")  # in the names of files whose code waits for threads


class Turn:
    """A reentrant lock that raises an error instead of deadlocking when its holder waits for threads that wait for the lock."""

    def __init__(self) -> None:
        self._lock, self._holder = threading.RLock(), 0

    def __enter__(self) -> None:
        looks = 0
        while not self._lock.acquire(timeout=1.0):
            frame = sys._current_frames().get(self._holder)
            file = frame.f_code.co_filename if frame else ""
            looks = looks + 1 if any(name in file for name in WAITING) else 0
            if looks == LOOKS:
                raise VBayesError(
                    "Another thread is waiting for threads inside vb.seeded, Pair.scope or the like, and so holds the lock on Pyro's parameter store and the global "
                    "random number generators, which this thread needs. Wanted: threads that are started outside of such a block; each fit has its own seed."
                )
        self._holder = threading.get_ident()

    def __exit__(self, *_: object) -> None:
        self._lock.release()


TURN = Turn()
"""Lock for state that a process has only once: Pyro's parameter store and handlers, the global random generators, the validation of distributions.

It is held while a thread seeds, is in a pair's scope, or takes a step of an `SVI`, so fits in several threads take turns.
"""


def takes_turns(function: Callable[P, R]) -> Callable[P, R]:
    """Decorator that lets only one thread at a time run the function."""

    @wraps(function)
    def alone(*args: P.args, **kwargs: P.kwargs) -> R:
        with TURN:
            return function(*args, **kwargs)

    return alone


def get_state() -> dict[str, Any]:
    """The state of every global generator: Python's, NumPy's, torch's on CPU, on MPS and on each CUDA device in use."""
    state: dict[str, Any] = {
        "torch": torch.get_rng_state(),
        "random": random.getstate(),
        "numpy": np.random.get_state(),
    }
    if torch.cuda.is_available() and torch.cuda.is_initialized():
        state["cuda"] = torch.cuda.get_rng_state_all()
    if torch.backends.mps.is_available():
        state["mps"] = torch.mps.get_rng_state()
    return state


def set_state(state: dict[str, Any]) -> None:
    """Restores what `get_state` returned."""
    torch.set_rng_state(state["torch"])
    random.setstate(state["random"])
    np.random.set_state(state["numpy"])
    if "mps" in state and torch.backends.mps.is_available():
        torch.mps.set_rng_state(state["mps"])
    if not torch.cuda.is_available():
        return
    there = torch.cuda.device_count()  # a fit may go on where there are fewer devices
    for number, one in enumerate(state.get("cuda", ())[:there]):
        torch.cuda.set_rng_state(one, number)
    if "cuda" not in state:  # from before there was a device: as the user's own seed left it, which waits for that
        torch.cuda.manual_seed_all(torch.initial_seed())


_default = 0


def default_seed() -> int:
    """The seed used by functions that are called without one: 0, or inside an experiment the seed of the run.

    In an experiment, use it for your own generators too: `torch.Generator().manual_seed(vb.default_seed())`.
    """
    return _default


def or_default(seed: int | None) -> int:
    """The seed, or the default seed if None."""
    return _default if seed is None else seed


@contextmanager
def by_default(seed: int) -> Iterator[None]:
    """Sets the default seed inside the block, for all threads of the process."""
    global _default
    before, _default = _default, seed
    try:
        yield
    finally:
        _default = before


@takes()
@contextmanager
def seeded(seed: int | None) -> Iterator[None]:
    """Seeds all global random generators inside the block, and restores them afterwards. Other threads wait for their turn.

    Functions of vbayes have a `seed` argument and do not use the global generators; pass the seed to them.

    Args:
        seed: Any integer ≥ 0, of which NumPy gets 32 bits; `default_seed()` if None.

    Examples:
        >>> with seeded(0): a = torch.randn(3)
        >>> with seeded(0): b = torch.randn(3)
        >>> torch.equal(a, b)
        True
    """
    with TURN:
        seed, before = or_default(seed), get_state()
        try:
            _seed(seed % 2**32)
            yield
        finally:
            set_state(before)


def _seed(seed: int) -> None:
    if torch.accelerator.is_available():
        torch.manual_seed(seed)
    else:  # torch.manual_seed would record the call stack three times, for devices that may be initialised later, which is most of its time
        torch.default_generator.manual_seed(seed)
    random.seed(seed)
    np.random.seed(seed)


@contextmanager
def continued(state: dict[str, Any]) -> Iterator[None]:
    """Continues from a saved state of the generators; `state` is updated when the block ends."""
    with TURN:
        before = get_state()
        try:
            set_state(state)
            if torch.cuda.is_available() and torch.cuda.is_initialized():
                # A device that the state has no entry for: draws there should still be determined by the state.
                for device in torch.cuda.default_generators[len(state.get("cuda", ())) :]:
                    device.manual_seed(int.from_bytes(bytes(state["torch"][:8].tolist()), "little"))
            yield
            state.update(get_state())
        finally:
            set_state(before)


def stream(*path: int, device: str | torch.device = "cpu") -> torch.Generator:
    """A generator whose draws are determined by some integers, and independent of those for any other integers.

    Args:
        path: A seed, followed by the numbers of the stream.
        device: Device of the generator.

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
    """Derives a seed from another one and some integers. Simply adding to a seed would make streams collide: the second of seed 0 would
    be the first of seed 1.
    """
    return stream(seed, *path).initial_seed() % 2**32


def children(seed: int, count: int) -> list[int]:
    """Seeds for several runs: the first is the seed itself, so that a single run does not change, and the others are children of it."""
    return [seed, *(child(seed, number) for number in range(1, count))][:count]
