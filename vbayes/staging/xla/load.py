"""jax, where it is installed: imported by the first program that needs it."""

from __future__ import annotations

import functools
import importlib.util
import os
from types import ModuleType

import torch

INSTALL = {"cpu": "pip install 'vbayes[xla]'", "cuda": "pip install 'jax[cuda12]'"}


class BackendMissing(Exception):
    """jax is not installed, or has no part for a device."""


def jax() -> ModuleType:
    """The module.

    Raises:
        BackendMissing: It is not installed, or does not import.
    """
    # On a card jax would take three quarters of the memory at its first array, and torch would have the rest.
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
    try:
        import jax

        return jax
    except ImportError as error:
        raise BackendMissing(f"jax is not there ({error}); it comes with {INSTALL['cpu']}") from error


@functools.cache
def missing(kind: str) -> str:
    """Why XLA can't be had for a kind of device, as "cpu"; empty if it can.

    It starts no back end for "cpu", which would start threads.
    """
    if importlib.util.find_spec("jax") is None:
        return f"jax is not installed; {INSTALL['cpu']}"
    if kind == "cpu":
        return ""
    try:
        jax().devices(kind)
    except (BackendMissing, RuntimeError) as error:
        return f"jax has no part for {kind!r} ({str(error).splitlines()[0]}); {INSTALL.get(kind, INSTALL['cpu'])}"
    return ""


def device_of(where: torch.device) -> object:
    """jax's name for a device of torch's."""
    found = jax().local_devices(backend=where.type)
    return found[where.index or 0]
