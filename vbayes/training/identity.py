"""What identifies a fit, to tell whether a checkpoint belongs to it: its pair and data, and how it is trained."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
from collections.abc import Sequence
from typing import Any

import torch

from ..data.dataset import Dataset
from ..data.spread import spread
from ..data.stored import Stored
from ..estimators import name_of

ROWS = 10_000  # rows read at a time, for data on disk
SAMPLED = 1000  # number of rows that identify the data in the file of a fit


def identity(fit: Any, validation: Dataset | None = None, **budget: Any) -> dict[str, Any]:
    """Name → plain value. A given length of the fit is not included, as the fit may be continued.

    Args:
        fit: A fit of zero steps.
        validation: Held-out data that decide when to stop.
        budget: Budget of a fit without a given length.
    """
    return {
        "pair": fit.pair.name,
        "guide": fit.pair.word,
        "data": _hash(fit.data),
        "estimator": name_of(fit.estimator),
        "batch_size": fit.batch_size,
        "optimizer": named(fit.optimizer),
        "learning_rate": fit.learning_rate,
        "seed": fit.seed,
        "compile": fit.compile,
        "average": fit.average,
        "validation": validation and _hash(validation),
        **budget,
    }


def _hash(data: Dataset) -> str:
    """A hash of everything in the data that affects the steps."""
    made = hashlib.sha256()
    columns = {**data.tensors, "numbers": data.numbers, "chances": data.chances}
    for name, column in columns.items():
        if column is not None:
            made.update(f"{name} {column.dtype} {tuple(column.shape)} {data.seed * (name == 'chances')}\n".encode())
            for some in range(0, len(column), ROWS) if isinstance(column, Stored) else [slice(None)]:
                rows = column[some : some + ROWS] if isinstance(some, int) else column
                made.update(rows.detach().contiguous().reshape(-1).view(torch.uint8).cpu().numpy().data)
    return f"{data.name} {made.hexdigest()[:16]}"


def rows_of(data: Dataset, columns: Sequence[str]) -> str:
    """Identifies data by the number of rows and a hash of some of them, spread over all; empty if the data are redrawn during the fit.

    Args:
        columns: The columns that the model takes; their types don't matter.
    """
    if data.chances is not None:
        return ""
    made, total = hashlib.sha256(), len(data)
    for name in columns:
        if name in data.tensors:
            column = data.tensors[name]
            rows = column[spread(total, SAMPLED, column.device)]
            values = rows.detach().to(torch.float32).nan_to_num(nan=0.5).contiguous()
            made.update(f"{tuple(values.shape)}".encode() + values.cpu().numpy().tobytes())
    return f"{total} rows {made.hexdigest()[:16]}"


def named(optimizer: Any) -> str:
    """A description of an optimiser (a class, a partial of one, or one of Pyro's objects) with its arguments."""
    if isinstance(optimizer, functools.partial):
        return f"{named(optimizer.func)}({_arguments(optimizer.keywords)})"
    if isinstance(optimizer, type):
        return optimizer.__name__
    if dataclasses.is_dataclass(optimizer):
        return repr(optimizer)
    parts = []
    for what in ("optim", "scheduler"):  # one of Pyro's, whose class does not tell Adam from SGD
        if constructor := getattr(optimizer, f"pt_{what}_constructor", None):
            given = getattr(optimizer, "kwargs" if what == "scheduler" else "pt_optim_args", {})
            parts += [getattr(constructor, "__name__", "..."), _arguments(given) if isinstance(given, dict) else "..."]
    clipped = getattr(optimizer, "pt_clip_args", None) or {}
    parts.append(_arguments(clipped) if isinstance(clipped, dict) else "...")
    return f"{type(optimizer).__name__}({', '.join(filter(None, parts))})"


def _arguments(given: dict[str, Any]) -> str:
    plain = (bool, int, float, str, tuple, list, dict, type(None))
    return ", ".join(
        f"{name}={value!r}" if isinstance(value, plain) else f"{name}=..." for name, value in given.items()
    )
