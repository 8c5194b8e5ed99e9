"""What pairs over rows of features say when a size does not fit."""

from __future__ import annotations

from torch import Tensor

from ..errors import BadInput


def check_sizes(**sizes: int) -> None:
    """Raises `BadInput` where a size is no whole number above 0."""
    for name, size in sizes.items():
        if not isinstance(size, int) or isinstance(size, bool) or size < 1:
            raise BadInput(f"{name}={size!r} is no size. Wanted: a whole number of at least 1.")


def check_positive(**numbers: float) -> None:
    """Raises `BadInput` where a number is not positive and finite."""
    for name, number in numbers.items():
        if not 0 < number < float("inf"):
            raise BadInput(f"{name}={number!r}. Wanted: a finite number above 0.")


def check_columns(pair: str, x: Tensor, features: int) -> None:
    """Raises `BadInput` where x is not (N, features)."""
    if x.dim() != 2 or x.shape[1] != features:
        raise BadInput(
            f"x has shape {tuple(x.shape)}, but pair {pair!r} was made for features={features}. Wanted: x of shape (N, {features}), or a pair "
            f"made with features={x.shape[-1] if x.dim() else 1}."
        )
