"""Where data have gaps: NaN, and what is infinite."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor


def gaps_of(name: str, tensors: Mapping[str, Tensor]) -> tuple[Tensor, str]:
    """The numbers of the rows with a gap, in the first column that has any, and that in words.

    Args:
        name: Of the data set.
        tensors: Its columns.
    """
    for key, values in tensors.items():
        if values.is_floating_point() and not (finite := torch.isfinite(values)).all():
            bad = (~finite.reshape(len(values), -1).all(-1)).nonzero().flatten()
            some = f"{len(bad)} of {len(values)} rows (first: row {int(bad[0])})"
            return bad, f"Column {key!r} of {name!r} has NaN or infinite values in {some}"
    return torch.zeros(0, dtype=torch.long, device="cpu"), ""
