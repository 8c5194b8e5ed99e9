"""The real `mnist`, `binarized_mnist` and `frey_face`, where `$VBAYES_DATA` holds them; nothing is downloaded."""

from __future__ import annotations

import hashlib
import importlib
import os

import numpy as np
import pytest

from vbayes.data import binarized_mnist, frey_face, mnist

pytestmark = [
    pytest.mark.usefixtures("no_download"),
    pytest.mark.skipif(
        not os.environ.get("VBAYES_DATA"),
        reason="REAL DATA NOT TESTED: set VBAYES_DATA to a folder with mnist/, binarized_mnist/ and frey_face/",
    ),
]


# How many images there are of each class is in every description of MNIST.
@pytest.mark.parametrize(
    "split, counts",
    [
        ("train", [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949]),
        ("test", [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]),
    ],
)
def test_mnist(split, counts):
    data = mnist(split=split)
    assert data.first.shape == (sum(counts), 784)
    assert data.tensors["label"].bincount().tolist() == counts
    assert ((data.first == 0) | (data.first == 1)).all()


def test_the_mean_of_grey_mnist():
    # 0.1307 and 0.3081 are the mean and deviation that every tutorial normalises the training images by
    x = mnist(binary=False).first
    assert round(float(x.mean()), 4) == 0.1307
    assert round(float(x.std()), 4) == 0.3081


@pytest.mark.parametrize("split, rows", [("train", 50_000), ("valid", 10_000), ("test", 10_000)])
def test_binarized_mnist_as_text_has_the_published_hash(split, rows):
    data = binarized_mnist(split=split)
    assert data.first.shape == (rows, 784)
    text = np.full((rows, 2 * 784), ord(" "), np.uint8)
    text[:, ::2] = data.first.numpy() + ord("0")
    text[:, -1] = ord("\n")
    published = importlib.import_module("vbayes.data.binarized_mnist").FILES[split]
    assert hashlib.sha256(text.tobytes()).hexdigest() == published.sha256 == data.sha256


def test_frey_face():
    x = frey_face().first
    assert x.shape == (1965, 560)
    assert float(x.double().mean()) == pytest.approx(154.4609 / 255, abs=1e-6)
    # the 1400 frames that papers train on
    assert float(x[:1400].double().mean()) == pytest.approx(0.6049, abs=5e-5)
    assert float(x[:1400].double().std()) == pytest.approx(0.1763, abs=5e-5)
    assert (x * 255).round().to(int).unique().numel() > 200


def test_frey_face_is_upright():
    # Rows of 20 pixels: with the right width, each pixel is close to the one below it.
    pictures = frey_face().first.reshape(-1, 28, 20)
    wrong = frey_face().first.reshape(-1, 20, 28)
    assert pictures.diff(dim=1).abs().mean() < 0.7 * wrong.diff(dim=1).abs().mean()


def test_the_packed_frames_are_those_of_the_published_file():
    module = importlib.import_module("vbayes.data.frey_face")
    path = module.fetch(module.PUBLISHED, module.PACKED)
    assert module.content_sha256(path) == module.PUBLISHED.sha256
