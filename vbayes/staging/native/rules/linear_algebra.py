"""Products and factors of matrices."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from ..blas import ENOUGH, words
from ..ir import Cholesky, Product, Triangular, Unsupported, View
from .reductions import reduced
from .registry import copied, elementwise, fill, pointwise, rule, shape_and_type


@rule("mm", "bmm")
def _mm(out: Tensor, a: View, b: View) -> View:
    return _product(tuple(out.shape), out, a, b)


@rule("mv")
def _mv(out: Tensor, a: View, b: View) -> View:
    product = _product((a.shape[0], 1), out, a, View(b.value, b.meta.unsqueeze(1)))
    return View(product.value, product.meta.squeeze(1))


def _product(shape: tuple[int, ...], out: Tensor, a: View, b: View) -> View:
    if out.dtype not in (torch.float32, torch.float64):
        raise Unsupported("a matrix product of integers")
    m, k, n = *a.shape[-2:], b.shape[-1]
    if k == 1 and math.prod(shape) > ENOUGH:  # an outer product need not be stored: whoever reads it makes it
        return elementwise("mul", shape, out.dtype, a, b)
    if m * n * k > ENOUGH:
        a, b = _for_blas(a), _for_blas(b)
    return View.whole(Product(shape, out.dtype, (a, b)))


def _for_blas(matrix: View) -> View:
    """The same; a copy where neither its rows nor its columns lie together."""
    if 1 in matrix.shape[-2:]:
        (step,) = (s for n, s in zip(matrix.shape[-2:], matrix.strides[-2:], strict=True) if n > 1)
        return matrix if step else copied(matrix)
    return matrix if words(*matrix.shape[-2:], *matrix.strides[-2:]) else copied(matrix)


@rule("dot")
def _dot(out: Tensor, a: View, b: View) -> View:
    return reduced(out, "sum", elementwise("mul", a.shape, out.dtype, a, b))


@rule("addmm")
def _addmm(out: Tensor, bias: View, a: View, b: View, *, beta: float = 1, alpha: float = 1) -> View:
    product = _mm(out, a, b)
    if (beta, alpha) == (1, 1):
        return pointwise(out, "add", [bias, product])
    return pointwise(out, "sum_scaled", [bias, product, beta, alpha])


@rule("linalg_cholesky_ex")
def _cholesky(out: tuple[Tensor, Tensor], a: View, *, upper: bool = False, check_errors: bool = False) -> list[View]:
    if upper:
        raise Unsupported("an upper Cholesky factor")
    factor, info = out
    # If it fails, the factor has NaN on its diagonal; no error code is returned.
    return [View.whole(Cholesky(**shape_and_type(factor), operands=(a,))), fill(tuple(info.shape), torch.int32, 0)]


@rule("_linalg_check_errors")
def _nothing(out: Any, *_: Any, **__: Any) -> None:
    """A failed factorisation gives NaN, so that the step that it affects is not taken."""


@rule("linalg_solve_triangular")
def _solve(out: Tensor, a: View, b: View, *, upper: bool, left: bool = True, unitriangular: bool = False) -> View:
    if not left:  # X A = B is A' X' = B'
        return _solve(out.mT, a.transpose(), b.transpose(), upper=not upper, unitriangular=unitriangular).transpose()
    if out.shape[-2] * out.numel() > ENOUGH and not words(*a.shape[-2:], *a.strides[-2:]):
        a = copied(a)
    return View.whole(Triangular(**shape_and_type(out), operands=(a, b), upper=upper, unit=unitriangular))


@rule("cholesky_solve")
def _cholesky_solve(out: Tensor, b: View, factor: View, upper: bool = False) -> View:
    lower = factor.transpose() if upper else factor
    half = _solve(out, lower, b, upper=False)
    return _solve(out, lower.transpose(), half, upper=True)
