"""Frey's face: frames of a video of one man's moods."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import torch

from ..arguments.takes import takes
from .datafile import DataFile, fetch
from .dataset import Dataset


def frames(path: Path) -> np.ndarray:
    """(1965, 560) uint8 from either form of the file; a frame is 28 rows of 20 pixels.

    Raises:
        ValueError: The frames have another shape. A damaged file raises whatever its reader does.
    """
    if path.suffix == ".npz":
        with np.load(path) as file:
            return file["ff"]
    from scipy.io import loadmat

    columns = loadmat(path, variable_names=["ff"], appendmat=False)["ff"]
    if columns.shape != (560, 1965):
        raise ValueError(f"ff has shape {columns.shape}, wanted (560, 1965)")
    return np.ascontiguousarray(columns.T, dtype=np.uint8)


def content_sha256(path: Path) -> str:
    """The SHA-256 of the frames, (1965, 560) bytes in C order, in hexadecimal."""
    return hashlib.sha256(frames(path).tobytes()).hexdigest()


# No hash of the MATLAB container is known: what is checked are the frames in it, wherever they came from.
PUBLISHED = DataFile(
    "frey_face/frey_rawface.mat",
    "2438ba4f0d2a6bd8bac43de756141eaa33c8d248dd613d464bdb1210d9b7af78",
    "https://cs.nyu.edu/~roweis/data/frey_rawface.mat",
    content_sha256,
)
PACKED = DataFile("frey_face/frey_faces.npz", "4c8a34f3e7302237ac8cecc0381cdec6a89ac0bd3ba7f0a1db23c6f20ce366fa")


@takes()
def frey_face() -> Dataset:
    """Frames of a man's face on video, 1965 images of 28×20 in grey; downloaded, 1 MB.

    Column: `x` float32 (1965, 560), in [0, 1], in the order of the film, so neighbouring rows are similar.

    Raises:
        DataUnavailable: The file can't be obtained; see `fetch`.

    References:
        Roweis & Saul 2000, Nonlinear dimensionality reduction by locally linear embedding, Science 290.
        Kingma & Welling 2014, Auto-encoding variational Bayes, arXiv:1312.6114, section 5.
        File from https://cs.nyu.edu/~roweis/data/frey_rawface.mat; no licence stated.
    """
    grey = frames(fetch(PUBLISHED, PACKED))
    return Dataset(
        {"x": torch.from_numpy(grey.astype(np.float32)) / 255},
        name="frey_face",
        dims={"x": ("pixel",)},
        image=(28, 20),
        photograph=True,
        support="unit",
        source="Frey & Roweis, Frey Face, https://cs.nyu.edu/~roweis/data.html",
        licence="none stated",
        sha256=PUBLISHED.sha256,
    )
