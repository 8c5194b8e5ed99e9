"""Detects singular covariances and constant features, with the same answer on every processor.

Whether a Cholesky factorisation of a singular matrix fails, and whether equal numbers have a variance of exactly 0, depends on
how a processor rounds the last bit. Here both are decided by a tolerance that is larger than any such rounding.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ..errors import BadInput

ROUNDINGS = 4
"""Rounding error of an input, in units of eps.

An entry of a matrix results from a sum, two divisions and square roots; a datum from a change of units.
"""


def positive_definite(matrix: Tensor) -> bool:
    """Whether all symmetric matrices (*B, L, L) are positive definite, with a margin that makes a Cholesky factorisation succeed on every processor."""
    return bool((conditioning(matrix) > tolerance(matrix)).all())


def conditioning(matrix: Tensor) -> Tensor:
    """(*B) the smallest eigenvalue over the largest, after the rows and columns of (*B, L, L) are scaled to a diagonal of ones.

    Like a factorisation, this does not depend on units: variances of 1e−9 and 1e9 together are not singular. −∞ for a
    matrix whose diagonal is not positive, or with an entry that is not finite.
    """
    matrix = matrix.detach()
    diagonal = matrix.diagonal(dim1=-2, dim2=-1)
    usable = (diagonal > 0).all(-1) & torch.isfinite(matrix).all(-1).all(-1)
    eye = torch.eye(matrix.shape[-1], dtype=matrix.dtype, device=matrix.device)
    matrix = torch.where(usable[..., None, None], matrix, eye)
    root = matrix.diagonal(dim1=-2, dim2=-1).sqrt()
    eigenvalues = torch.linalg.eigvalsh(matrix / root.unsqueeze(-1) / root.unsqueeze(-2))
    return torch.where(usable, eigenvalues[..., 0] / eigenvalues[..., -1], -torch.inf)


def tolerance(matrix: Tensor) -> float:
    """Lower bound on the `conditioning` of a positive definite matrix of this size and type: 4 L eps.

    Entries are at most 1 after scaling. If each has an error of 4 eps, no eigenvalue has an error above 4 L eps (Weyl), and the largest is at
    least 1, as their mean is 1: so a singular matrix lies below the bound. Above it, a factorisation can't fail if L ≤ 7, where 4 L eps is larger than the
    L (L + 1) eps / 2 of the theorem; for larger L the theorem is far too pessimistic.

    References:
        Higham 2002, Accuracy and stability of numerical algorithms, theorem 10.7 (Demmel 1989).
    """
    return ROUNDINGS * matrix.shape[-1] * torch.finfo(matrix.dtype).eps


def require_positive_definite(matrix: Tensor, what: str) -> None:
    """Raises `BadInput` unless all matrices (*B, L, L) are positive definite."""
    found, least = float(conditioning(matrix).min()), tolerance(matrix)
    if not found > least:
        raise BadInput(
            f"The {what} is singular or not a covariance: the ratio of its smallest to its largest eigenvalue is {found:.3g}, with all variances scaled to 1. "
            f"Wanted: a positive definite matrix, with a ratio above {least:.2g}. Leave out the directions that never change, or add a small number to the "
            "diagonal."
        )


def unchanging(x: Tensor) -> Tensor:
    """(D,) which features of (N, D) data are constant, up to 4 eps times the largest value, or not finite."""
    low, high = x.amin(0), x.amax(0)
    return ~(high - low > ROUNDINGS * torch.finfo(x.dtype).eps * torch.maximum(low.abs(), high.abs()))
