"""The fixed binarisation of MNIST on which published log-likelihoods are measured."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from ..arguments.kind import Anything
from ..arguments.takes import takes
from ..errors import UnknownName
from .datafile import DataFile, fetch
from .dataset import Dataset

PIXELS = 784
URL = "http://www.cs.toronto.edu/~larocheh/public/datasets/binarized_mnist/"


def _file(split: str, sha256: str) -> DataFile:
    name = f"binarized_mnist_{split}.amat"
    return DataFile(f"binarized_mnist/{name}", sha256, URL + name)


# The hashes are of the text itself: for each image a line of 784 digits 0 or 1, a single space between two of them,
# none at either end, and "\n" after each line, the last one too. That makes 1568 bytes an image: 78 400 000 for train,
# 15 680 000 for valid and for test. TensorFlow Datasets lists the same sizes and hashes for the published files.
FILES = {
    "train": _file("train", "ad693b29f94c14277b095f5238ddefbbdaaae0939789dd2f4f0205278cee3e4d"),
    "valid": _file("valid", "1de3d397c40fe8eeb33dafd4099a1f665ec01e96d9be234aaeeac8a34930e2e2"),
    "test": _file("test", "e6687bfea3f820c174f33b7865140b2a2dd2930ef786f35d45795fc193b5ab2c"),
}
"""Split → its file."""

PACKED = DataFile(
    "binarized_mnist/binarized_mnist_packed.npz", "ffa0a9f987e0311402be21f7fe1c68d9f0f7f14127a4922bcccf06d7b7d6453c"
)
"""All splits in one file, eight pixels to a byte."""


@takes(split=Anything())
def binarized_mnist(*, split: str = "train") -> Dataset:
    """Binarised digits, 50 000 (train), 10 000 (valid) or 10 000 (test) images of 28×28; downloaded, 78 or 16 MB.

    Column: `x` float32 (N, 784). Each pixel was drawn once, with its grey value as the probability of a 1, so that
    everyone works on the same images; there are no labels.

    Args:
        split: "train", "valid" or "test".

    Raises:
        UnknownName: There is no such split.
        DataUnavailable: The file can't be obtained; see `fetch`.

    References:
        Salakhutdinov & Murray 2008, On the quantitative analysis of deep belief networks.
        Larochelle & Murray 2011, The neural autoregressive distribution estimator.
        Files from http://www.cs.toronto.edu/~larocheh/public/datasets/binarized_mnist/; no licence stated.
    """
    if not isinstance(split, str) or split not in FILES:
        raise UnknownName("split", str(split), FILES)
    path = fetch(FILES[split], PACKED)
    bits = read_packed(path, split) if path.suffix == ".npz" else read_amat(path)
    return Dataset(
        {"x": torch.from_numpy(bits).float()},
        name="binarized_mnist",
        dims={"x": ("pixel",)},
        image=(28, 28),
        support="binary",
        source=f"Larochelle's static binarisation of MNIST (Salakhutdinov & Murray 2008), split {split}",
        licence="none stated; derived from MNIST",
        sha256=FILES[split].sha256,
    )


def read_amat(path: Path) -> np.ndarray:
    """(N, 784) uint8 from the published text, each pixel in every second byte; `fetch` has vouched for the format."""
    text = np.frombuffer(path.read_bytes(), np.uint8)
    return text[::2].reshape(-1, PIXELS) - ord("0")


def read_packed(path: Path, split: str) -> np.ndarray:
    """(N, 784) uint8 from the packed file."""
    with np.load(path) as splits:
        return np.unpackbits(splits[split], axis=1)[:, :PIXELS]
