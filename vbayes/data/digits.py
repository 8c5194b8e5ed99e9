"""Handwritten digits of 8×8 pixels: small, bundled with scikit-learn, and the default data set."""

from __future__ import annotations

import torch

from ..arguments.takes import takes
from .dataset import Dataset

WHITE = 16  # a pixel counts the ink in a 4×4 block of the scanned bitmap, so it is an integer from 0 to 16


@takes()
def digits(*, binary: bool = True) -> Dataset:
    """Handwritten digits, 1797 images of 8×8; bundled, needs no network.

    Columns: `x` float32 (1797, 64) and `label` int64 (1797,). These are the test images of the UCI data set.

    Args:
        binary: Whether a pixel is 1 where its ink / 16 is at least 0.5, else 0; False keeps ink / 16, in [0, 1].

    References:
        Alpaydin & Kaynak 1998, Optical Recognition of Handwritten Digits, UCI Machine Learning Repository,
        doi:10.24432/C50P49; CC BY 4.0.
    """
    from sklearn.datasets import load_digits

    ink, label = load_digits(return_X_y=True)
    x = torch.from_numpy(ink) / WHITE
    if binary:
        x = x >= 0.5
    return Dataset(
        {"x": x.float(), "label": torch.from_numpy(label).long()},
        name="digits",
        dims={"x": ("pixel",)},
        image=(8, 8),
        support="binary" if binary else "unit",
        source="UCI Optical Recognition of Handwritten Digits (Alpaydin & Kaynak 1998), as bundled with scikit-learn",
        licence="CC BY 4.0",
    )
