"""Finds gaps in data: NaN and infinite values."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from .stored import Stored

FEW = 10_000  # for data on disk, only the first rows are checked; a gap further down ends the fit, with its position in the error


def gaps_of(name: str, tensors: Mapping[str, Tensor]) -> tuple[Tensor, str]:
    """The numbers of the rows with a gap, and a description with the number of gaps in each column.

    Args:
        name: Name of the data set.
        tensors: Its columns.
    """
    found = {}
    for key, values in tensors.items():
        values = values[:FEW] if isinstance(values, Stored) else values
        if not values.is_floating_point() or torch.isfinite(values.sum()):
            continue  # without allocating another array of this size
        if not (finite := torch.isfinite(values)).all():
            found[key] = ~finite.reshape(len(values), -1).all(-1)
    if not found:
        return torch.zeros(0, dtype=torch.long, device="cpu"), ""
    length = max(map(len, found.values()))
    rows = (
        torch.stack([torch.cat([bad, bad.new_zeros(length - len(bad))]) for bad in found.values()])
        .any(0)
        .nonzero()
        .flatten()
    )
    each = [
        f"{key!r} of {name!r} has NaN or infinite values in {int(bad.sum())} of {len(bad)} rows"
        for key, bad in found.items()
    ]
    return rows, f"Column {', column '.join(each)} (first: row {int(rows[0])})"
