"""Products and factors of matrices."""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
import torch
from jax import lax
from jax.scipy import linalg
from torch import Tensor

from .registry import Unsupported, cast, rule


def coarse() -> bool:
    """Whether torch has been told, by `torch.set_float32_matmul_precision` or in its newer way, that on a card TF32 will do for products of float32."""
    return torch.backends.cuda.matmul.fp32_precision == "tf32"


def precision() -> lax.Precision:
    """Of products and convolutions: all digits, unless torch has been told that fewer will do. On a card jax would by itself take the coarse and fast way."""
    return lax.Precision.DEFAULT if coarse() else lax.Precision.HIGHEST


@rule("mm", "bmm", "mv", "dot")
def _product(out: Tensor, a: Any, b: Any) -> Any:
    return jnp.matmul(a, b, precision=precision())


@rule("addmm", "baddbmm", "addmv")
def _addmm(out: Tensor, bias: Any, a: Any, b: Any, *, beta: float = 1, alpha: float = 1) -> Any:
    product = _product(out, a, b)
    product = product if alpha == 1 else cast(alpha, out.dtype) * product
    return product if beta == 0 else (bias if beta == 1 else cast(beta, out.dtype) * bias) + product


def _turned(x: Any) -> Any:
    return jnp.swapaxes(x, -1, -2)


def _no_info(out: Tensor) -> Any:
    """A failed factorisation gives NaN, and no error code."""
    return jnp.zeros(tuple(out.shape), "int32")


@rule("linalg_cholesky_ex")
def _cholesky(out: Any, a: Any, *, upper: bool = False, check_errors: bool = False) -> Any:
    factor = lax.linalg.cholesky(_turned(a) if upper else a, symmetrize_input=False)
    return _turned(factor) if upper else factor, _no_info(out[1])


@rule("linalg_solve_triangular")
def _solve(out: Tensor, a: Any, b: Any, *, upper: bool, left: bool = True, unitriangular: bool = False) -> Any:
    batch = jnp.broadcast_shapes(a.shape[:-2], b.shape[:-2])
    a = jnp.broadcast_to(a, (*batch, *a.shape[-2:]))
    b = jnp.broadcast_to(b, (*batch, *b.shape[-2:]))
    return lax.linalg.triangular_solve(a, b, left_side=left, lower=not upper, unit_diagonal=unitriangular)


@rule("triangular_solve")
def _triangular(
    out: Any, b: Any, a: Any, upper: bool = True, transpose: bool = False, unitriangular: bool = False
) -> Any:
    turned, lower = (_turned(a), upper) if transpose else (a, not upper)
    return _solve(out[0], turned, b, upper=not lower, unitriangular=unitriangular), a


@rule("cholesky_solve")
def _cholesky_solve(out: Tensor, b: Any, factor: Any, upper: bool = False) -> Any:
    lower = _turned(factor) if upper else factor
    half = _solve(out, lower, b, upper=False)
    return _solve(out, _turned(lower), half, upper=True)


@rule("cholesky_inverse")
def _cholesky_inverse(out: Tensor, factor: Any, upper: bool = False) -> Any:
    return _cholesky_solve(
        out, jnp.broadcast_to(jnp.eye(factor.shape[-1], dtype=factor.dtype), factor.shape), factor, upper
    )


@rule("linalg_lu_factor_ex")
def _lu_factor(out: Any, a: Any, *, pivot: bool = True, check_errors: bool = False) -> Any:
    if not pivot:
        raise Unsupported("an LU decomposition without pivots")
    factors, pivots, _ = lax.linalg.lu(a)
    return factors, pivots + 1, _no_info(out[2])


@rule("linalg_lu_solve")
def _lu_solve(out: Tensor, lu: Any, pivots: Any, b: Any, *, left: bool = True, adjoint: bool = False) -> Any:
    if not left:  # X A = B is A' X' = B'
        return _turned(_lu_solve(out, lu, pivots, _turned(b), adjoint=not adjoint))
    order = lax.linalg.lu_pivots_to_permutation(pivots.astype("int32") - 1, lu.shape[-1])
    batch = jnp.broadcast_shapes(lu.shape[:-2], b.shape[:-2])
    b = jnp.broadcast_to(b, (*batch, *b.shape[-2:]))
    order = jnp.broadcast_to(order, (*batch, order.shape[-1]))
    if adjoint:
        half = _solve(out, _turned(lu), b, upper=False)
        half = _solve(out, _turned(lu), half, upper=True, unitriangular=True)
        return jnp.take_along_axis(half, jnp.argsort(order, axis=-1)[..., None], axis=-2)
    half = jnp.take_along_axis(b, order[..., None], axis=-2)
    return _solve(out, lu, _solve(out, lu, half, upper=False, unitriangular=True), upper=True)


@rule("lu_unpack")
def _lu_unpack(out: Any, lu: Any, pivots: Any, unpack_data: bool = True, unpack_pivots: bool = True) -> Any:
    rows, columns = lu.shape[-2:]
    least = min(rows, columns)
    order = lax.linalg.lu_pivots_to_permutation(pivots.astype("int32") - 1, rows)
    permuted = _turned(jnp.eye(rows, dtype=lu.dtype)[order])
    return permuted, jnp.tril(lu[..., :least], -1) + jnp.eye(rows, least, dtype=lu.dtype), jnp.triu(lu[..., :least, :])


@rule("_linalg_solve_ex")
def _solve_ex(out: Any, a: Any, b: Any, *, left: bool = True, check_errors: bool = False) -> Any:
    factors, pivots, info = _lu_factor((None, None, out[3]), a)
    vector = b.ndim == a.ndim - 1 and out[0].ndim == b.ndim
    right = b[..., None] if vector else b
    found = _lu_solve(out[0], factors, pivots, right, left=left)
    return found[..., 0] if vector else found, factors, pivots, info


@rule("linalg_inv_ex")
def _inverse(out: Any, a: Any, *, check_errors: bool = False) -> Any:
    factors, pivots, info = _lu_factor((None, None, out[1]), a)
    one = jnp.broadcast_to(jnp.eye(a.shape[-1], dtype=a.dtype), a.shape)
    return _lu_solve(out[0], factors, pivots, one), info


@rule("_linalg_det")
def _det(out: Any, a: Any) -> Any:
    sign, factors, pivots = _signed(a)
    return sign * jnp.prod(jnp.diagonal(factors, axis1=-2, axis2=-1), -1), factors, pivots


@rule("_linalg_slogdet")
def _slogdet(out: Any, a: Any) -> Any:
    sign, factors, pivots = _signed(a)
    diagonal = jnp.diagonal(factors, axis1=-2, axis2=-1)
    return sign * jnp.prod(jnp.sign(diagonal), -1), jnp.sum(jnp.log(jnp.abs(diagonal)), -1), factors, pivots


def _signed(a: Any) -> tuple[Any, Any, Any]:
    """The sign of the permutation, and the factors."""
    factors, pivots, _ = lax.linalg.lu(a)
    odd = jnp.sum(pivots != jnp.arange(pivots.shape[-1]), -1) % 2
    return jnp.where(odd == 1, -1, 1).astype(a.dtype), factors, pivots + 1


@rule("_linalg_eigh")
def _eigh(out: Any, a: Any, UPLO: str = "L", compute_v: bool = True) -> Any:
    vectors, values = lax.linalg.eigh(a if UPLO == "L" else _turned(a), lower=True, symmetrize_input=False)
    return values, vectors if compute_v else jnp.zeros((0,), a.dtype)


@rule("linalg_qr")
def _qr(out: Any, a: Any, mode: str = "reduced") -> Any:
    if mode == "r":
        raise Unsupported("a QR decomposition without Q")
    return jnp.linalg.qr(a, mode=mode)


@rule("_linalg_svd")
def _svd(out: Any, a: Any, full_matrices: bool = False, compute_uv: bool = True, *, driver: Any = None) -> Any:
    if not compute_uv:
        nothing = jnp.zeros((0,), a.dtype)
        return nothing, jnp.linalg.svd(a, compute_uv=False), nothing
    return tuple(jnp.linalg.svd(a, full_matrices=full_matrices))


@rule("linalg_matrix_exp")
def _matrix_exp(out: Tensor, a: Any) -> Any:
    return linalg.expm(a)
