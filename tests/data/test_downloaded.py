"""`mnist`, `binarized_mnist` and `frey_face`: the road from the published file to tensors, on small substitutes."""

from __future__ import annotations

import gzip
import hashlib
import importlib
import struct
from dataclasses import replace

import numpy as np
import pytest
import torch

from vbayes.data import binarized_mnist, frey_face, mnist
from vbayes.errors import DataUnavailable, UnknownName

# The packages' attributes of these names are the loaders; these are the modules.
mnist_module, binarized_module, frey_module = (
    importlib.import_module(f"vbayes.data.{name}") for name in ("mnist", "binarized_mnist", "frey_face")
)
RNG = np.random.default_rng(0)


def substitute(file, body: bytes, server):
    """The same file with other content, published on the loopback server."""
    return replace(file, sha256=hashlib.sha256(body).hexdigest(), url=server.serve(file.path, body))


def idx(values: np.ndarray) -> bytes:
    head = struct.pack(f">BBBB{values.ndim}I", 0, 0, 8, values.ndim, *values.shape)
    return gzip.compress(head + values.tobytes())


@pytest.mark.parametrize("split", ["train", "test"])
def test_mnist_from_idx_files(split, server, cache, monkeypatch):
    images = RNG.integers(256, size=(3, 28, 28), dtype=np.uint8)
    images[0, 0, :4] = 0, 127, 128, 255
    files = mnist_module.FILES[split]
    small = substitute(files[0], idx(images), server), substitute(files[1], idx(np.array([7, 0, 9], np.uint8)), server)
    monkeypatch.setitem(mnist_module.FILES, split, small)

    data = mnist(split=split)
    assert data.first.dtype == torch.float32 and data.first[0, :4].tolist() == [0, 0, 1, 1]
    assert np.array_equal(data.first.numpy().reshape(images.shape), images > 127)
    assert data.tensors["label"].tolist() == [7, 0, 9] and data.tensors["label"].dtype == torch.int64
    assert (data.image, data.support, dict(data.dims)) == ((28, 28), "binary", {"x": ("pixel",)})
    assert split in data.source and data.licence and data.sha256 == small[0].sha256

    grey = mnist(split=split, binary=False)
    assert grey.support == "unit"
    torch.testing.assert_close(grey.first, torch.from_numpy(images).reshape(3, 784) / 255)
    assert len(server.requests) == 2


@pytest.mark.parametrize("split", ["train", "valid", "test"])
def test_binarized_mnist_from_text(split, server, cache, monkeypatch):
    bits = RNG.integers(2, size=(3, 784))
    text = "".join(" ".join(map(str, row)) + "\n" for row in bits).encode()
    small = substitute(binarized_module.FILES[split], text, server)
    monkeypatch.setitem(binarized_module.FILES, split, small)

    data = binarized_mnist(split=split)
    assert server.requests == [f"/binarized_mnist/binarized_mnist_{split}.amat"]
    assert np.array_equal(data.first.numpy(), bits) and data.first.dtype == torch.float32
    assert (data.image, data.support, dict(data.dims)) == ((28, 28), "binary", {"x": ("pixel",)})
    assert list(data.tensors) == ["x"] and split in data.source and data.sha256 == small.sha256


def test_binarized_mnist_from_the_packed_file(tmp_path, cache, monkeypatch):
    bits = {split: RNG.integers(2, size=(n, 784), dtype=np.uint8) for n, split in enumerate(binarized_module.FILES, 1)}
    path = tmp_path / "own" / binarized_module.PACKED.path
    path.parent.mkdir(parents=True)
    np.savez(path, **{split: np.packbits(values, axis=1) for split, values in bits.items()})
    sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
    monkeypatch.setattr(binarized_module, "PACKED", replace(binarized_module.PACKED, sha256=sha256))
    monkeypatch.setenv("VBAYES_DATA", str(tmp_path / "own"))
    for split, values in bits.items():
        assert np.array_equal(binarized_mnist(split=split).first.numpy(), values)


@pytest.fixture
def face(server, cache, tmp_path, monkeypatch):
    """Publishes a MATLAB file of random frames; returns them, and a function that publishes other contents."""
    from scipy.io import savemat

    frames = RNG.integers(256, size=(1965, 560), dtype=np.uint8)

    def publish(**arrays: np.ndarray) -> None:
        savemat(tmp_path / "face.mat", arrays)
        server.serve(frey_module.PUBLISHED.path, (tmp_path / "face.mat").read_bytes())

    publish(ff=frames.T)
    sha256 = hashlib.sha256(frames.tobytes()).hexdigest()
    published = replace(frey_module.PUBLISHED, sha256=sha256, url=server.url(frey_module.PUBLISHED.path))
    monkeypatch.setattr(frey_module, "PUBLISHED", published)
    return frames, publish


def test_frey_face_from_a_matlab_file(face, server):
    frames, _ = face
    data = frey_face()
    torch.testing.assert_close(data.first, torch.from_numpy(frames) / 255)
    assert data.first.dtype == torch.float32
    assert (data.image, data.support, dict(data.dims)) == ((28, 20), "unit", {"x": ("pixel",)})
    assert data.sha256 == hashlib.sha256(frames.tobytes()).hexdigest()
    frey_face()
    assert len(server.requests) == 1


def test_frey_face_does_not_mind_another_container(face):
    frames, publish = face
    publish(note=np.zeros(3), ff=frames.T.astype(float))
    torch.testing.assert_close(frey_face().first, torch.from_numpy(frames) / 255)


@pytest.mark.parametrize(
    "arrays, told",
    [
        ({"tt": np.zeros((560, 1965), np.uint8)}, "KeyError: 'ff'"),
        ({"ff": np.zeros((1965, 560), np.uint8)}, r"shape \(1965, 560\), wanted \(560, 1965\)"),
        ({"ff": np.zeros((560, 1965), np.uint8)}, hashlib.sha256(bytes(560 * 1965)).hexdigest()),
    ],
    ids=["no frames", "transposed", "other frames"],
)
def test_frey_face_refuses_other_content(arrays, told, face, cache):
    _, publish = face
    publish(**arrays)
    with pytest.raises(DataUnavailable, match=told):
        frey_face()
    assert not [p for p in cache.rglob("*") if p.is_file()]


def test_frey_face_refuses_what_is_no_matlab_file(face, server, cache):
    server.serve(frey_module.PUBLISHED.path, b"<html>moved</html>" * 100)
    with pytest.raises(DataUnavailable, match="unreadable"):
        frey_face()
    assert not [p for p in cache.rglob("*") if p.is_file()]


@pytest.mark.parametrize("load, known", [(mnist, "test, train"), (binarized_mnist, "test, train, valid")])
def test_an_unknown_split_is_refused_before_anything_is_read(load, known, cache):
    with pytest.raises(UnknownName, match=f"no split named 'tests'.*'test'(.|\n)*Known: {known}"):
        load(split="tests")
    with pytest.raises(UnknownName, match="no split named 'None'"):
        load(split=None)


def test_urls_and_paths_are_those_published():
    for images, labels in mnist_module.FILES.values():
        for file in (images, labels):
            name = file.path.removeprefix("mnist/")
            assert file.url == f"https://ossci-datasets.s3.amazonaws.com/mnist/{name}"
    for split, file in binarized_module.FILES.items():
        assert file.path == f"binarized_mnist/binarized_mnist_{split}.amat"
        assert file.url == (
            f"http://www.cs.toronto.edu/~larocheh/public/datasets/binarized_mnist/binarized_mnist_{split}.amat"
        )
    assert frey_module.PUBLISHED.url == "https://cs.nyu.edu/~roweis/data/frey_rawface.mat"
