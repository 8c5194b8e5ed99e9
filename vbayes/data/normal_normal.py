"""Two numbers, for the conjugate pair with known answers."""

from __future__ import annotations

import torch

from ..arguments.takes import takes
from .dataset import Dataset


@takes()
def normal_normal() -> Dataset:
    """The two numbers −0.5 and 2, for the conjugate pair; bundled.

    Column: `x` float32 (2,).
    """
    return Dataset({"x": torch.tensor([-0.5, 2.0])}, name="normal_normal", source="made", licence="none needed")
