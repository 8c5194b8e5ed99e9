"""Products and factors of matrices."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ..ir import Cholesky, Product, Triangular, Unsupported, View
from .reductions import reduced
from .registry import elementwise, fill, pointwise, rule, shape_and_type


@rule("mm", "bmm")
def _mm(out: Tensor, a: View, b: View) -> View:
    return View.whole(_product(tuple(out.shape), out, a, b))


@rule("mv")
def _mv(out: Tensor, a: View, b: View) -> View:
    column = View(b.value, b.meta.unsqueeze(1))
    return View.shaped(_product((a.shape[0], 1), out, a, column), out.shape)


def _product(shape: tuple[int, ...], out: Tensor, a: View, b: View) -> Product:
    if out.dtype not in (torch.float32, torch.float64):
        raise Unsupported("a matrix product of integers")
    return Product(shape, out.dtype, (a, b))


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
    # Where it fails the factor has NaN on its diagonal; who asks after the reason gets none.
    return [View.whole(Cholesky(**shape_and_type(factor), operands=(a,))), fill(tuple(info.shape), torch.int32, 0)]


@rule("_linalg_check_errors")
def _nothing(out: Any, *_: Any, **__: Any) -> None:
    """Where a factorisation failed there is NaN, and the step that it reaches is not taken."""


@rule("linalg_solve_triangular")
def _solve(out: Tensor, a: View, b: View, *, upper: bool, left: bool = True, unitriangular: bool = False) -> View:
    if not left:  # X A = B is A' X' = B'
        return _solve(out.mT, a.transpose(), b.transpose(), upper=not upper, unitriangular=unitriangular).transpose()
    return View.whole(Triangular(**shape_and_type(out), operands=(a, b), upper=upper, unit=unitriangular))


@rule("cholesky_solve")
def _cholesky_solve(out: Tensor, b: View, factor: View, upper: bool = False) -> View:
    lower = factor.transpose() if upper else factor
    half = _solve(out, lower, b, upper=False)
    return _solve(out, lower.transpose(), half, upper=True)
