"""MNIST, from the four files that LeCun and Cortes published."""

from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np
import torch

from ..arguments.kind import Anything
from ..arguments.takes import takes
from ..errors import UnknownName
from .datafile import DataFile, fetch
from .dataset import Dataset

URL = "https://ossci-datasets.s3.amazonaws.com/mnist/"  # PyTorch's mirror: the original site no longer serves them


def _file(name: str, sha256: str) -> DataFile:
    return DataFile(f"mnist/{name}", sha256, URL + name)


FILES = {
    "train": (
        _file("train-images-idx3-ubyte.gz", "440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609"),
        _file("train-labels-idx1-ubyte.gz", "3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c"),
    ),
    "test": (
        _file("t10k-images-idx3-ubyte.gz", "8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6"),
        _file("t10k-labels-idx1-ubyte.gz", "f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6"),
    ),
}
"""Split → its images and its labels."""


@takes(split=Anything())
def mnist(*, split: str = "train", binary: bool = True) -> Dataset:
    """Handwritten digits, 60 000 (train) or 10 000 (test) images of 28×28; downloaded, 12 MB.

    Columns: `x` float32 (N, 784) and `label` int64 (N,).

    Args:
        split: "train" or "test".
        binary: Whether a pixel is 1 where its grey value / 255 is at least 0.5, else 0; False keeps grey value / 255,
            in [0, 1].

    Raises:
        UnknownName: There is no such split.
        DataUnavailable: A file can't be obtained; see `fetch`.

    References:
        LeCun, Bottou, Bengio & Haffner 1998, Gradient-based learning applied to document recognition.
        Files from https://ossci-datasets.s3.amazonaws.com/mnist/; CC BY-SA 3.0, as the TensorFlow documentation says.
    """
    if not isinstance(split, str) or split not in FILES:
        raise UnknownName("split", str(split), FILES)
    images, labels = FILES[split]
    grey = torch.from_numpy(read_idx(fetch(images)).astype(np.float32)).flatten(1) / 255
    return Dataset(
        {"x": (grey >= 0.5).float() if binary else grey, "label": torch.from_numpy(read_idx(fetch(labels))).long()},
        name="mnist",
        dims={"x": ("pixel",)},
        image=(28, 28),
        support="binary" if binary else "unit",
        source=f"LeCun & Cortes, the MNIST database of handwritten digits, split {split}",
        licence="CC BY-SA 3.0",
        sha256=images.sha256,
    )


def read_idx(path: Path) -> np.ndarray:
    """The array in a gzipped idx file of bytes, as uint8 with the file's own shape.

    The format: two zero bytes, the type (8: unsigned byte), the number of dimensions, each dimension as a big-endian
    32-bit integer, then the values in C order.
    """
    content = gzip.decompress(path.read_bytes())
    assert content[:3] == b"\0\0\x08", "fetch() has checked the hash, so this is an idx file of bytes"
    rank = content[3]
    shape = np.frombuffer(content, ">u4", count=rank, offset=4)
    return np.frombuffer(content, np.uint8, offset=4 + 4 * rank).reshape(shape).copy()
