"""The data sets that need no file: `digits`, `eight_schools` and `nile`."""

from __future__ import annotations

import subprocess
import sys

import torch

from vbayes.data import DATASETS, digits, eight_schools, nile


def test_digits_are_what_scikit_learn_bundles():
    data = digits()
    x, label = data.tensors["x"], data.tensors["label"]
    assert list(data.tensors) == ["x", "label"] and len(data) == 1797
    assert x.shape == (1797, 64) and x.dtype == torch.float32
    assert label.shape == (1797,) and label.dtype == torch.int64
    # class counts from scikit-learn's description of the data set
    assert label.bincount().tolist() == [178, 182, 177, 183, 181, 182, 181, 179, 174, 180]
    assert (data.image, data.support, dict(data.dims)) == ((8, 8), "binary", {"x": ("pixel",)})
    assert data.source and data.licence


def test_the_first_digit_is_the_zero_that_scikit_learn_prints():
    # digits.images[0] in scikit-learn's tutorial
    ink = [
        [0, 0, 5, 13, 9, 1, 0, 0],
        [0, 0, 13, 15, 10, 15, 5, 0],
        [0, 3, 15, 2, 0, 11, 8, 0],
        [0, 4, 12, 0, 0, 8, 8, 0],
        [0, 5, 8, 0, 0, 9, 8, 0],
        [0, 4, 11, 0, 1, 12, 7, 0],
        [0, 2, 14, 5, 10, 12, 0, 0],
        [0, 0, 6, 13, 10, 0, 0, 0],
    ]
    data = digits(binary=False)
    assert data.tensors["label"][0] == 0
    assert (data.first[0].reshape(data.image) * 16).tolist() == ink


def test_binary_digits_split_the_grey_ones_at_a_half():
    grey, binary = digits(binary=False), digits()
    assert grey.support == "unit" and grey.image == (8, 8)
    assert torch.equal(grey.first * 16, (grey.first * 16).round())
    assert grey.first.min() == 0 and grey.first.max() == 1
    at_half = grey.first == 0.5
    assert at_half.any() and (binary.first[at_half] == 1).all()
    assert torch.equal(binary.first, torch.where(grey.first < 0.5, 0.0, 1.0))


def test_eight_schools_are_rubins():
    data = eight_schools()
    assert data.tensors["y"].tolist() == [28, 8, -3, 7, -1, 1, 18, 12]
    assert data.tensors["sigma"].tolist() == [15, 10, 16, 11, 9, 11, 10, 18]
    assert {v.dtype for v in data.tensors.values()} == {torch.float32}
    assert list(data.tensors) == ["y", "sigma"] and dict(data.dims) == {} and data.image is None
    assert data.support == "real" and "Rubin 1981" in data.source


def test_the_pooled_effect_of_the_eight_schools():
    # Gelman et al. 2013, section 5.5: the pooled estimate is 7.7 points with a standard error of 4.1
    y, sigma = eight_schools().tensors.values()
    precision = sigma**-2
    assert round(float((y * precision).sum() / precision.sum()), 1) == 7.7
    assert round(float(precision.sum() ** -0.5), 1) == 4.1


def test_the_nile_is_cobbs():
    # Published summaries: a mean of 919.35 over the hundred years, 1097.75 to 1898 and 849.97 after; the least is 1913's.
    (x,) = nile().tensors.values()
    assert x.shape == (1, 100) and x.dtype == torch.float32
    assert float(x.double().mean()) == 919.35
    assert float(x[0, :28].double().mean()) == 1097.75 and round(float(x[0, 28:].double().mean()), 2) == 849.97
    assert int(x.argmin()) + 1871 == 1913 and float(x.min()) == 456
    assert int(x.argmax()) + 1871 == 1879 and float(x.max()) == 1370


def test_every_data_set_is_registered_under_its_name_and_described_in_a_line():
    for name, load in DATASETS.items():
        assert load.__name__ == name
        first, *rest = (load.__doc__ or "").split("\n")
        assert 20 < len(first) < 110 and first.endswith("."), name
        assert rest and rest[0] == ""


def test_importing_the_package_imports_no_reader():
    code = "import sys, vbayes.data; print({'sklearn', 'scipy', 'pooch', 'requests'} & set(sys.modules))"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == "set()"
