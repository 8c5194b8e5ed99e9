"""Singular or not: just inside and just outside of the tolerance, whatever the units, and never by the luck of a factorisation."""

from __future__ import annotations

import pytest
import torch

import vbayes as vb
from vbayes.exact.degenerate import conditioning, positive_definite, require_positive_definite, tolerance, unchanging

TYPES = (torch.float32, torch.float64)


def correlated(size: int, ratio: float, dtype: torch.dtype) -> torch.Tensor:
    """Ones on the diagonal, and one pair correlated so much that its eigenvalues 1 ± r have this ratio."""
    matrix = torch.eye(size, dtype=dtype)
    matrix[0, -1] = matrix[-1, 0] = (1 - ratio) / (1 + ratio)
    return matrix


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("size", [2, 3, 7, 40])
def test_just_inside_and_just_outside(size, dtype):
    limit = tolerance(torch.eye(size, dtype=dtype))
    assert limit == pytest.approx(4 * size * torch.finfo(dtype).eps)
    singular, sound = (correlated(size, share * limit, dtype) for share in (0.75, 1.25))
    # Units are powers of two, which round nothing.
    units = 2.0 ** torch.linspace(-30, 30, size, dtype=dtype).round()
    for scale in (torch.ones_like(units), units):
        assert not positive_definite(singular * scale * scale[:, None])
        assert positive_definite(sound * scale * scale[:, None])
        torch.linalg.cholesky(sound * scale * scale[:, None])
    assert positive_definite(torch.stack([sound] * 3).reshape(3, 1, size, size))
    assert not positive_definite(torch.stack([sound, singular]))


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("size", [2, 3, 10, 40])
def test_singular_ones_are_refused_even_where_a_factorisation_succeeds(size, dtype):
    roots = torch.randn(100, size, size - 1, dtype=dtype, generator=torch.Generator().manual_seed(size))
    singular = roots @ roots.mT
    _, failed = torch.linalg.cholesky_ex(singular)
    assert (failed == 0).any(), "of a hundred none succeeds: this test shows nothing"
    off = conditioning(singular).abs() / tolerance(singular)
    assert off.max() < 0.3  # what rounding makes is far inside


def test_what_is_no_covariance():
    for matrix in (
        [[1.0, 2.0], [2.0, 1.0]],
        [[-1.0, 0.0], [0.0, 1.0]],
        [[0.0, 0.0], [0.0, 1.0]],
        [[1.0, torch.nan], [torch.nan, 1.0]],
    ):
        with pytest.raises(
            vb.errors.BadInput,
            match="noise is singular or not a covariance: the ratio of its smallest to its largest eigenvalue is -",
        ):
            require_positive_definite(torch.tensor(matrix), "noise")
    assert positive_definite(torch.tensor([[1e-30]]))


@pytest.mark.parametrize("dtype", TYPES)
def test_a_feature_that_never_changes(dtype):
    """The mean of many 0.1 need not be 0.1, and then their variance is above 0."""
    eps = torch.finfo(dtype).eps
    x = torch.tensor([0.1, 0.1, 1.0, 1.0, -1e6, 0.0], dtype=dtype).repeat(178, 1)
    x[7, 1] *= 1 + 3 * eps
    x[7, 2] += 5 * eps
    x[7, 3] += 3 * eps
    assert unchanging(x).tolist() == [True, True, False, True, True, True]
    assert unchanging(x * torch.nan).all() and not unchanging(torch.arange(6.0, dtype=dtype).reshape(3, 2)).any()
