"""Representative rows."""

from __future__ import annotations

import torch
from torch import Tensor


def spread(rows: int, most: int, device: torch.device | str) -> Tensor:
    """Row numbers from the first to the last, evenly spaced.

    Args:
        rows: N, the number of rows.
        most: Maximum number of them; all rows if there are no more.

    Returns:
        (min(N, most),) integers below N; from 2²⁴ rows on spaced evenly up to rounding.
    """
    chosen = torch.linspace(0, rows - 1, min(rows, most), device=device).long()
    return chosen.clamp(max=rows - 1)  # single precision may round to one row too far
