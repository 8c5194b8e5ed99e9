"""Sequences of unequal lengths and with missing steps, and checks of them."""

from __future__ import annotations

import torch
from torch import Tensor

from ...errors import BadInput
from .emissions import Emission
from .messages import inside


def filled(x: Tensor, seen: Tensor) -> Tensor:
    """x (N, T, *features), with 0 at unobserved steps (N, T)."""
    return where_seen(seen, x, torch.zeros_like(x))


def where_seen(seen: Tensor, x: Tensor, other: Tensor) -> Tensor:
    """x (N, T, *features) at observed steps (N, T), and the other values elsewhere."""
    return torch.where(seen.reshape(*seen.shape, *(1,) * (x.dim() - 2)), x, other)


def check_sequences(
    emission: Emission, x: Tensor, lengths: Tensor | None = None, observed: Tensor | None = None
) -> Tensor:
    """Checks sequences, and returns which steps were observed.

    Args:
        emission: The emission that x must come from.
        x: (N, T, *features).
        lengths: (N,) integers, or None.
        observed: (N, T) true or false, or None.

    Returns:
        (N, T) whether a step belongs to its row and was observed.

    Raises:
        BadInput: Shapes or types do not match, a row has no steps, or the emission can't emit a value.
    """
    check_shapes(emission.features, x, lengths)
    seen = inside(x, lengths)
    if observed is not None:
        if observed.shape != x.shape[:2] or observed.dtype != torch.bool:
            raise BadInput(
                f"observed has shape {tuple(observed.shape)} and {observed.dtype}. Wanted: {tuple(x.shape[:2])} booleans."
            )
        seen = seen & observed
    if seen.any():
        emission.check_data(x[seen])
    return seen


def check_shapes(features: tuple[int, ...], x: Tensor, lengths: Tensor | None) -> None:
    """Raises `BadInput` if x or its lengths are not valid."""
    shape = tuple(x.shape)
    wanted = "(N, T" + "".join(f", {d}" for d in features) + ")"
    if len(shape) != 2 + len(features) or shape[2:] != features:
        mend = " A single sequence is x[None]." if shape[1:] == features else ""
        raise BadInput(f"x has shape {shape}. Wanted: {wanted}, N sequences of T steps.{mend}")
    if 0 in shape:
        raise BadInput(
            f"x has shape {shape}, without any step. Wanted: {wanted} with at least one sequence of one step."
        )
    if lengths is None:
        return
    if lengths.shape != shape[:1] or lengths.is_floating_point() or lengths.dtype == torch.bool:
        raise BadInput(f"lengths has shape {tuple(lengths.shape)} and {lengths.dtype}. Wanted: ({shape[0]},) integers.")
    if bool((lengths < 1).any() or (lengths > shape[1]).any()):
        row = int(((lengths < 1) | (lengths > shape[1])).nonzero()[0])
        raise BadInput(
            f"lengths has {int(lengths[row])} in row {row}. Wanted: 1 to {shape[1]}, the steps of x. Leave out rows without steps."
        )
