"""Detects singular covariances and constant features, with the same answer on every processor.

Whether a Cholesky factorisation of a singular matrix fails, and whether numbers that are all alike have a variance of exactly 0, depends on
how one processor rounds the last bit. Here both are decided by a tolerance that is above all such rounding.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ..errors import BadInput

ROUNDINGS = 4
"""Units of eps by which a number that is looked at here may be off.

An entry of a matrix comes out of a sum, two divisions and square roots; a datum out of a change of units.
"""


def positive_definite(matrix: Tensor) -> bool:
    """Whether all the symmetric matrices (*B, L, L) are, so surely that a Cholesky factorisation succeeds on every processor."""
    return bool((conditioning(matrix) > tolerance(matrix)).all())


def conditioning(matrix: Tensor) -> Tensor:
    """(*B) the smallest eigenvalue over the largest, after the rows and columns of (*B, L, L) are scaled to a diagonal of ones.

    The scale is that of a factorisation, which units don't matter to: variances of 1e−9 and 1e9 side by side are not singular. −∞ for a
    matrix with a diagonal that is not positive, or with an entry that is not finite.
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
    """What the `conditioning` of a positive definite matrix of this size and type is above: 4 L eps.

    Entries are at most 1 after the scaling. If each is off by 4 eps, no eigenvalue is by more than 4 L eps (Weyl), and the largest is at
    least 1, as their mean is: so a singular matrix is within. Beyond, a factorisation can't fail if L ≤ 7, where 4 L eps is above the
    L (L + 1) eps / 2 of the theorem; for larger ones that is far above what happens.

    References:
        Higham 2002, Accuracy and stability of numerical algorithms, theorem 10.7 (Demmel 1989).
    """
    return ROUNDINGS * matrix.shape[-1] * torch.finfo(matrix.dtype).eps


def require_positive_definite(matrix: Tensor, what: str) -> None:
    """Raises `BadInput` for matrices (*B, L, L) of which one isn't."""
    found, least = float(conditioning(matrix).min()), tolerance(matrix)
    if not found > least:
        raise BadInput(
            f"The {what} is singular or not a covariance: the ratio of its smallest to its largest eigenvalue is {found:.3g}, with all variances scaled to 1. "
            f"Wanted: a positive definite matrix, with a ratio above {least:.2g}. Leave out the directions that never change, or add a small number to the "
            "diagonal."
        )


def unchanging(x: Tensor) -> Tensor:
    """(D,) which features of (N, D) data never change: by no more than 4 eps of the largest value. Also those that are not finite."""
    low, high = x.amin(0), x.amax(0)
    return ~(high - low > ROUNDINGS * torch.finfo(x.dtype).eps * torch.maximum(low.abs(), high.abs()))
