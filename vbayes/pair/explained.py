"""Explains errors in the user's own code: why a pair does not run, and how it was called."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from ..data.columns_for import parameters_of
from ..data.dataset import Batch
from ..errors import BadData, BadEstimator, BadInput, BadPair, Unsuitable, VBayesError
from ..validation import validation
from .agreement import BOOLEAN, match
from .density import require_density
from .pair import Pair

FAILURES = (
    ValueError,
    RuntimeError,
    LookupError,
    TypeError,
    AttributeError,
    ArithmeticError,
    AssertionError,
)  # errors of a user's own code on arguments that do not fit


@contextmanager
def explained(pair: Pair, batch: Batch) -> Iterator[None]:
    """Turns errors in a user's own code into `BadPair`, with a description of the arguments."""
    try:
        yield
    except BadInput as error:  # the pair itself knows what is wrong; Pyro adds the shapes of sites
        if isinstance(error, Unsuitable) and (why := _without_density(pair, batch)):
            raise BadPair(why) from error
        kind = type(error) if isinstance(error, (BadData, BadEstimator, Unsuitable)) else BadPair
        raise kind(str(error).split("\nTrace Shapes:")[0]) from error
    except VBayesError:
        raise
    except FAILURES as error:
        raise BadPair(_explain(pair, batch, error)) from error


def _explain(pair: Pair, batch: Batch, error: Exception) -> str:
    """Why a pair does not run: a site that does not match, if there is one; otherwise the error of the run."""
    try:
        with pair.copy().look(), torch.no_grad(), validation(False):
            match(pair, *pair.apart(batch))
    except BadPair as mismatch:
        return str(mismatch)
    except Exception:
        pass  # fails alone too, or the guide was only partly initialised: the first error is more informative
    if why := _without_density(pair, batch):
        return why
    return (
        f"Pair {pair.name!r} does not run on this batch: {type(error).__name__}: {error}\n"
        f"It was called with {_described(batch)}; check the expected shapes and types, to_event, and the "
        "sizes of plates."
        + (_no_codes(pair, batch) if isinstance(error, IndexError) else "")
        + (BOOLEAN if any(isinstance(a, torch.Tensor) and a.dtype == torch.bool for a in batch.args) else "")
    )


def _no_codes(pair: Pair, batch: Batch) -> str:
    """Which integers are no codes 0, 1, ... of groups, as an index beyond the last group suggests; empty if all may be."""
    for parameter, a in zip(parameters_of(pair.model) or [], batch.args, strict=False):
        if isinstance(a, torch.Tensor) and a.dim() == 1 and a.dtype == torch.int64 and len(a):
            found, largest = len(a.unique()), int(a.max())
            if largest >= found:
                name = parameter.name
                return (
                    f" {name!r} has {found} different integers, up to {largest}, so they are not codes 0, 1, ...; if they name groups: table[{name!r}].astype('category'), or "
                    f"vb.data.read(..., categorical=[{name!r}]), or --categorical {name}."
                )
    return ""


def _without_density(pair: Pair, batch: Batch) -> str:
    """Which observed values have no density; empty if that is not the reason."""
    try:
        require_density(pair, pair.beside(batch))
    except BadPair as found:
        return str(found)
    except Exception:
        pass  # the model does not run: the first error is more informative
    return ""


def _described(batch: Batch) -> str:
    return ", ".join(
        f"{tuple(a.shape)} {str(a.dtype).removeprefix('torch.')}" if isinstance(a, torch.Tensor) else repr(a)
        for a in batch.args
    )
