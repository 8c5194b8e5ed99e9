"""What is checked and warned of: switched for a while, and back to what it was."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import pyro
from torch.distributions import Distribution

from .rng import TURN


@contextmanager
def validation(on: bool) -> Iterator[None]:
    """Pyro's and torch's validation on or off inside; afterwards each as it was, whatever happened in between.

    Off, a value that is not finite reaches the ELBO and is named there, and a model can be captured: checks branch on
    data. Pyro's own context puts back Pyro's setting, but not one that the caller made in torch.
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
    """Torch's validation off inside, Pyro's as it is: a model may be looked at whose data are outside their support."""
    with TURN:
        before = Distribution._validate_args
        try:
            Distribution.set_default_validate_args(False)
            yield
        finally:
            Distribution._validate_args = before


@contextmanager
def no_warnings_of_nan() -> Iterator[None]:
    """For those who look at the values themselves: Pyro warns of a loss that is not finite."""
    with TURN, warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Encountered (NaN|\\+inf|-inf|infinity)", UserWarning)
        yield
