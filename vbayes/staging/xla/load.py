"""jax, where it is installed: imported by the first program that needs it."""

from __future__ import annotations

import functools
import importlib.util
import os
import sys
from types import ModuleType
from typing import Any

import torch

INSTALL = {
    "cpu": "pip install 'vbayes[xla]'",
    "cuda": f"pip install 'jax[cuda{(torch.version.cuda or '12').split('.')[0]}]'",  # of torch's own CUDA
}


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
    except Exception as error:  # as for a jaxlib of another version, which is no ImportError
        raise BackendMissing(f"jax is not there ({_first(error)}); it comes with {INSTALL['cpu']}") from error


def missing(kind: str) -> str:
    """Why XLA can't be had for a kind of device, as "cpu"; empty if it can.

    It starts no back end for "cpu", which would start threads.
    """
    if _forked:
        return "jax was imported before this process was forked, and its threads are not here; start processes by 'spawn' or 'forkserver'"
    return _missing(kind)


@functools.cache
def _missing(kind: str) -> str:
    if importlib.util.find_spec("jax") is None:
        return f"jax is not installed; {INSTALL['cpu']}"
    if kind == "cpu":
        return ""
    try:
        jax().devices(kind)
    except Exception as error:  # a plugin without a driver raises what it likes
        return f"jax has no part for {kind!r} ({_first(error)}); {INSTALL.get(kind, INSTALL['cpu'])}"
    return ""


def device_of(where: torch.device) -> Any:
    """jax's name for a device of torch's.

    Raises:
        BackendMissing: jax has been told to leave it alone, or has no part for it.
    """
    number = where.index or 0
    try:
        found = {device.local_hardware_id: device for device in jax().local_devices(backend=where.type)}
    except RuntimeError as error:  # as with JAX_PLATFORMS=cuda, where there is no processor
        raise BackendMissing(f"jax has no part for {where.type!r} ({_first(error)})") from error
    if number not in found:
        raise BackendMissing(
            f"jax does not see {where}, only numbers {sorted(found)}: look at JAX_CUDA_VISIBLE_DEVICES"
        )
    return found[number]


_forked = False


def _in_a_child() -> None:
    global _forked
    _forked = "jax" in sys.modules  # a program of jax's would wait for ever for threads that a fork does not copy


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_in_a_child)


def _first(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
