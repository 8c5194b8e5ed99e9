"""Context managers that switch validation and warnings temporarily."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pyro
import torch
from torch.distributions import Distribution

from .rng import TURN


@contextmanager
def validation(on: bool) -> Iterator[None]:
    """Switches Pyro's and torch's validation on or off inside the block, and restores both afterwards.

    If it is off, a value that is not finite reaches the ELBO and is reported there, and a model can be captured, as checks would branch on
    data. Pyro's own context restores Pyro's setting, but not one that the caller made in torch.
    """
    with TURN:
        before = Distribution._validate_args
        try:
            with pyro.validation_enabled(on):
                yield
        finally:
            Distribution._validate_args = before


@contextmanager
def values_unchecked() -> Iterator[None]:
    """Switches off torch's validation inside the block, but not Pyro's, so that a model can be run with data outside their support."""
    with TURN:
        before = Distribution._validate_args
        try:
            Distribution.set_default_validate_args(False)
            yield
        finally:
            Distribution._validate_args = before


@contextmanager
def no_warnings_of_nan() -> Iterator[None]:
    """Silences Pyro's warning about losses that are not finite, for callers that check the values themselves."""
    with TURN, warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Encountered (NaN|\\+inf|-inf|infinity)", UserWarning)
        yield


def vmap(function: Callable[..., Any], **options: Any) -> Callable[..., Any]:
    """`torch.vmap` without its warnings, in every call, about operations that it runs one by one because they have no batching rule."""
    many = torch.vmap(function, **options)

    def mapped(*args: Any) -> Any:
        torch._C._functorch._set_vmap_fallback_warning_enabled(False)  # type: ignore[attr-defined]
        try:
            return many(*args)
        finally:
            torch._C._functorch._set_vmap_fallback_warning_enabled(True)  # type: ignore[attr-defined]

    return mapped
