"""What pairs over rows of features say when a size does not fit."""

from __future__ import annotations

from torch import Tensor

from ..arguments.memory import require_memory
from ..errors import BadInput

COPIES = 4  # of a weight: itself, its gradient, and what Adam keeps of it


def check_sizes(**sizes: int) -> None:
    """Raises `BadInput` where the weights between the two largest layers would take more memory than there is."""
    (one, m), (other, n) = sorted(sizes.items(), key=lambda item: -item[1])[:2]
    require_memory(COPIES * 4.0 * m * n, f"{one}={m}, {other}={n}", mend=f"a smaller {one} or {other}")


def check_columns(pair: str, x: Tensor, features: int) -> None:
    """Raises `BadInput` where x is not (N, features)."""
    if x.dim() != 2 or x.shape[1] != features:
        raise BadInput(
            f"x has shape {tuple(x.shape)}, but pair {pair!r} was made for features={features}. Wanted: x of shape (N, {features}), or a pair "
            f"made with features={x.shape[-1] if x.dim() else 1}."
        )
