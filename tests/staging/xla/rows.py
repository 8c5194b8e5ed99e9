"""For each operation that XLA has a rule for, functions that are made of it."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F

aten = torch.ops.aten
Row = list[Callable[..., object]]


def positive(m: torch.Tensor) -> torch.Tensor:
    return m @ m.mT + 2 * torch.eye(m.shape[-1], dtype=m.dtype)


def gapped(x: torch.Tensor, *shape: int) -> torch.Tensor:
    """Numbers in no order, none of them twice."""
    return (
        torch.sin(torch.arange(x[:1].numel() * torch.Size(shape).numel(), dtype=x.dtype) * 1.7).view(shape) + 0 * x[0]
    )


# x: floats between -1 and 1, without zero; i: integers; b: truth values; m: square matrices, three of them.
POINTWISE: dict[str, Row] = {
    "abs": [lambda x, i, b, m: x.abs(), lambda x, i, b, m: i.abs()],
    "acos": [lambda x, i, b, m: x.acos()],
    "acosh": [lambda x, i, b, m: (1 + x.abs()).acosh()],
    "add": [lambda x, i, b, m: x + i, lambda x, i, b, m: i + 3, lambda x, i, b, m: b + b, lambda x, i, b, m: torch.add(x, i, alpha=3)],
    "asin": [lambda x, i, b, m: x.asin()],
    "asinh": [lambda x, i, b, m: x.asinh()],
    "atan": [lambda x, i, b, m: (9 * x).atan()],
    "alias": [lambda x, i, b, m: aten.alias(x) + 1],
    "convert_element_type": [lambda x, i, b, m: torch.ops.prims.convert_element_type(x, torch.float32)],
    "_assert_tensor_metadata": [lambda x, i, b, m: (aten._assert_tensor_metadata(x, dtype=x.dtype), x)[1]],
    "atan2": [lambda x, i, b, m: torch.atan2(x, x.flip(0))],
    "atanh": [lambda x, i, b, m: x.atanh()],
    "bitwise_and": [lambda x, i, b, m: i & 6, lambda x, i, b, m: b & (i > 0)],
    "bitwise_not": [lambda x, i, b, m: ~i, lambda x, i, b, m: ~b],
    "bitwise_or": [lambda x, i, b, m: i | 6],
    "bitwise_xor": [lambda x, i, b, m: i ^ 6, lambda x, i, b, m: b ^ (i > 0)],
    "bitwise_left_shift": [lambda x, i, b, m: torch.bitwise_left_shift(i, 3)],
    "bitwise_right_shift": [lambda x, i, b, m: torch.bitwise_right_shift(i, 1)],
    "__lshift__": [lambda x, i, b, m: aten.__lshift__(i, 3)],
    "__rshift__": [lambda x, i, b, m: aten.__rshift__(i, 1)],
    "ceil": [lambda x, i, b, m: (3 * x).ceil(), lambda x, i, b, m: i.ceil()],
    "clamp": [lambda x, i, b, m: x.clamp(-0.5, 0.5), lambda x, i, b, m: x.clamp(max=x.flip(0)), lambda x, i, b, m: i.clamp(-2, 2)],
    "clamp_min": [lambda x, i, b, m: x.clamp_min(0.1)],
    "clamp_max": [lambda x, i, b, m: x.log().clamp_max(0.1)],
    "clone": [lambda x, i, b, m: x.clone()],
    "copy": [lambda x, i, b, m: aten.copy(i.double(), x[:1])],
    "copysign": [lambda x, i, b, m: torch.copysign(x, i)],
    "cos": [lambda x, i, b, m: (9 * x).cos()],
    "cosh": [lambda x, i, b, m: (3 * x).cosh()],
    "detach": [lambda x, i, b, m: x.detach() * 2],
    "digamma": [lambda x, i, b, m: torch.digamma(4 * x)],
    "div": [lambda x, i, b, m: x / x.flip(0), lambda x, i, b, m: i / 7, lambda x, i, b, m: torch.div(i, -5, rounding_mode="floor"),
            lambda x, i, b, m: torch.div(i, -5, rounding_mode="trunc"), lambda x, i, b, m: torch.div(3 * x, 0.7, rounding_mode="floor"),
            lambda x, i, b, m: torch.div(3 * x, 0.7, rounding_mode="trunc"), lambda x, i, b, m: torch.div(x, 0 * x, rounding_mode="floor")],
    "eq": [lambda x, i, b, m: x == x.flip(0), lambda x, i, b, m: i == 3],
    "erf": [lambda x, i, b, m: (3 * x).erf()],
    "erfc": [lambda x, i, b, m: (3 * x).erfc()],
    "erfinv": [lambda x, i, b, m: x.erfinv()],
    "exp": [lambda x, i, b, m: (9 * x).exp()],
    "exp2": [lambda x, i, b, m: x.exp2()],
    "expm1": [lambda x, i, b, m: (x / 100).expm1()],
    "floor": [lambda x, i, b, m: (3 * x).floor(), lambda x, i, b, m: i.floor()],
    "fmod": [lambda x, i, b, m: torch.fmod(3 * x, 0.7), lambda x, i, b, m: torch.fmod(i, -4)],
    "ge": [lambda x, i, b, m: x >= x.flip(0), lambda x, i, b, m: i >= 0.5],
    "gt": [lambda x, i, b, m: i > b],
    "hypot": [lambda x, i, b, m: torch.hypot(x, x.flip(0))],
    "igamma": [lambda x, i, b, m: torch.special.gammainc(3 * x.abs(), 2 * x.flip(0).abs())],
    "igammac": [lambda x, i, b, m: torch.special.gammaincc(3 * x.abs(), 2 * x.flip(0).abs())],
    "isinf": [lambda x, i, b, m: torch.isinf(1 / (x - x.abs()))],
    "isnan": [lambda x, i, b, m: x.log().isnan()],
    "le": [lambda x, i, b, m: x <= x.flip(0)],
    "lgamma": [lambda x, i, b, m: torch.lgamma(5 * x)],
    "lift_fresh_copy": [lambda x, i, b, m: x * torch.tensor([2.0, 3.0, 4.0]).repeat(8)],
    "log": [lambda x, i, b, m: x.log()],
    "log10": [lambda x, i, b, m: x.log10()],
    "log1p": [lambda x, i, b, m: (x / 100).log1p()],
    "log2": [lambda x, i, b, m: x.log2()],
    "logical_and": [lambda x, i, b, m: torch.logical_and(x, i)],
    "logical_not": [lambda x, i, b, m: torch.logical_not(i)],
    "logical_or": [lambda x, i, b, m: torch.logical_or(b, i)],
    "logical_xor": [lambda x, i, b, m: torch.logical_xor(b, i)],
    "lt": [lambda x, i, b, m: x < i],
    "masked_fill": [lambda x, i, b, m: i.masked_fill(i > 2, -1), lambda x, i, b, m: x.masked_fill(b, 2.0)],
    "maximum": [lambda x, i, b, m: torch.maximum(x.log(), -x)],
    "minimum": [lambda x, i, b, m: torch.minimum(-x, x.log())],
    "mul": [lambda x, i, b, m: x * i, lambda x, i, b, m: i * 0x7FEB352D7FEB352D],
    "ne": [lambda x, i, b, m: x != x.flip(0)],
    "neg": [lambda x, i, b, m: -i],
    "nextafter": [lambda x, i, b, m: torch.nextafter(x, 2 * x)],
    "polygamma": [lambda x, i, b, m: torch.polygamma(2, 4 * x.abs()), lambda x, i, b, m: torch.polygamma(1, 4 * x.abs())],
    "pow": [lambda x, i, b, m: x.abs() ** x, lambda x, i, b, m: x**3, lambda x, i, b, m: x**-2, lambda x, i, b, m: x.abs() ** 0.5, lambda x, i, b, m: 2**x,
            lambda x, i, b, m: i**2, lambda x, i, b, m: x.abs() ** 2.5, lambda x, i, b, m: x**0, lambda x, i, b, m: i ** i.abs()],
    "reciprocal": [lambda x, i, b, m: x.reciprocal()],
    "relu": [lambda x, i, b, m: x.log().relu(), lambda x, i, b, m: i.relu()],
    "remainder": [lambda x, i, b, m: torch.remainder(3 * x, 0.7), lambda x, i, b, m: i % -4],
    "round": [lambda x, i, b, m: (4 * x).round(), lambda x, i, b, m: (i + 0.5).round(), lambda x, i, b, m: x.round(decimals=2)],
    "rsqrt": [lambda x, i, b, m: x.rsqrt()],
    "rsub": [lambda x, i, b, m: aten.rsub(x, i), lambda x, i, b, m: aten.rsub(i, 3, 2)],
    "sgn": [lambda x, i, b, m: x.sgn()],
    "sigmoid": [lambda x, i, b, m: (99 * x).sigmoid(), lambda x, i, b, m: i.sigmoid()],
    "sign": [lambda x, i, b, m: x.sign(), lambda x, i, b, m: i.sign()],
    "signbit": [lambda x, i, b, m: torch.signbit(x)],
    "sin": [lambda x, i, b, m: (9 * x).sin()],
    "sinh": [lambda x, i, b, m: (3 * x).sinh()],
    "i0": [lambda x, i, b, m: torch.i0(3 * x)],
    "special_i0e": [lambda x, i, b, m: torch.special.i0e(3 * x)],
    "special_i1": [lambda x, i, b, m: torch.special.i1(3 * x)],
    "special_i1e": [lambda x, i, b, m: torch.special.i1e(3 * x)],
    "special_ndtri": [lambda x, i, b, m: torch.special.ndtri(x.abs())],
    "special_zeta": [lambda x, i, b, m: torch.special.zeta(2 + x.abs(), 1 + x.flip(0).abs())],
    "sqrt": [lambda x, i, b, m: x.sqrt()],
    "sub": [lambda x, i, b, m: 1 - i, lambda x, i, b, m: torch.sub(x, i, alpha=3)],
    "tan": [lambda x, i, b, m: x.tan()],
    "tanh": [lambda x, i, b, m: (9 * x).tanh()],
    "_to_copy": [lambda x, i, b, m: (9 * x).to(torch.int64), lambda x, i, b, m: i.float(), lambda x, i, b, m: x.trunc().bool()],
    "trunc": [lambda x, i, b, m: (3 * x).trunc()],
    "where": [lambda x, i, b, m: torch.where(b, x, 2.0), lambda x, i, b, m: torch.where(b, i, x)],
    "xlogy": [lambda x, i, b, m: torch.xlogy(x.abs() * b, x.abs() * b), lambda x, i, b, m: torch.xlogy(i, x.abs())],
}  # fmt: skip
MADE: dict[str, Row] = {
    "arange": [lambda x, i, b, m: torch.arange(5), lambda x, i, b, m: torch.arange(1, 9, 2.5, dtype=x.dtype)],
    "empty_like": [lambda x, i, b, m: aten.empty_like(x) * 0],
    "empty_strided": [lambda x, i, b, m: aten.empty_strided((2, 3), (1, 2)).fill_(1)],
    "new_empty": [lambda x, i, b, m: x.new_empty(2).fill_(3)],
    "new_empty_strided": [lambda x, i, b, m: aten.new_empty_strided(x, (2, 3), (1, 2)).fill_(1)],
    "iota": [lambda x, i, b, m: torch.ops.prims.iota(5, start=2, step=3, dtype=torch.int64, device="cpu", requires_grad=False)],
    "empty": [lambda x, i, b, m: torch.empty(2, 3).fill_(7)],
    "eye": [lambda x, i, b, m: torch.eye(3, 4)],
    "fill": [lambda x, i, b, m: aten.fill(x, 2.5), lambda x, i, b, m: aten.fill(x, x[0])],
    "full": [lambda x, i, b, m: torch.full((2, 3), 4)],
    "full_like": [lambda x, i, b, m: torch.full_like(i, 4)],
    "new_full": [lambda x, i, b, m: x.new_full((3,), 4)],
    "new_ones": [lambda x, i, b, m: x.new_ones(3)],
    "new_zeros": [lambda x, i, b, m: i.new_zeros(3)],
    "ones": [lambda x, i, b, m: torch.ones(2)],
    "ones_like": [lambda x, i, b, m: torch.ones_like(b)],
    "scalar_tensor": [lambda x, i, b, m: torch.scalar_tensor(2.0)],
    "zeros": [lambda x, i, b, m: torch.zeros(2)],
    "zeros_like": [lambda x, i, b, m: torch.zeros_like(x)],
}  # fmt: skip
SHAPES: dict[str, Row] = {
    "as_strided_scatter": [lambda x, i, b, m: aten.as_strided_scatter(x, x[:4], (4,), (3,), 1)],
    "cat": [lambda x, i, b, m: torch.cat([m, m[:, :1]], 1), lambda x, i, b, m: torch.cat([x, i, x[:0]])],
    "constant_pad_nd": [lambda x, i, b, m: F.pad(m, (1, 2, 0, -1), value=3.0)],
    "diagonal": [lambda x, i, b, m: m.diagonal(1, -1, -2)],
    "diagonal_scatter": [lambda x, i, b, m: torch.diagonal_scatter(m, x[:9].view(3, 3), 0, 1, 2), lambda x, i, b, m: torch.diagonal_scatter(m[0], x[:2], -1),
                         lambda x, i, b, m: torch.diagonal_scatter(m[0, :2], x[:2], 1)],
    "expand": [lambda x, i, b, m: m[:, :1].expand(3, 3, 3), lambda x, i, b, m: x.expand(2, -1)],
    "flip": [lambda x, i, b, m: m.flip(0, -1)],
    "permute": [lambda x, i, b, m: m.permute(2, 0, -2)],
    "roll": [lambda x, i, b, m: m.roll((1, -1), (0, 2)), lambda x, i, b, m: m.roll(2)],
    "select": [lambda x, i, b, m: m.select(-1, -2)],
    "select_scatter": [lambda x, i, b, m: torch.select_scatter(m, m[0], 1, -1)],
    "slice": [lambda x, i, b, m: m[1:, ::2, -2:]],
    "slice_scatter": [lambda x, i, b, m: torch.slice_scatter(x, x[:3], 0, 2, 5), lambda x, i, b, m: torch.slice_scatter(m, m[:, :2], 1, 0, None, 2)],
    "split": [lambda x, i, b, m: x.split(10)[2]],
    "split_with_sizes": [lambda x, i, b, m: m.split([1, 2], -1)[1]],
    "squeeze": [lambda x, i, b, m: m[:, :1].squeeze(1), lambda x, i, b, m: m[:1, :, :1].squeeze()],
    "stack": [lambda x, i, b, m: aten.stack([x, -x], -1)],
    "t": [lambda x, i, b, m: aten.t(m[0, :2])],
    "transpose": [lambda x, i, b, m: m.transpose(0, -1)],
    "tril": [lambda x, i, b, m: m.tril(-1)],
    "triu": [lambda x, i, b, m: m.triu(1)],
    "unbind": [lambda x, i, b, m: m.unbind(-1)[2]],
    "unfold": [lambda x, i, b, m: x.unfold(0, 5, 3)],
    "unsqueeze": [lambda x, i, b, m: m.unsqueeze(-2)],
    "view": [lambda x, i, b, m: m.view(9, -1)],
    "_reshape_copy": [lambda x, i, b, m: aten._reshape_copy(m, (9, 3))],
    "_unsafe_view": [lambda x, i, b, m: aten._unsafe_view(m, (9, 3))],
}  # fmt: skip
INDEXING: dict[str, Row] = {
    "embedding": [lambda x, i, b, m: F.embedding(i.abs() % 3, m[0])],
    "gather": [lambda x, i, b, m: m.gather(1, i[:18].abs().view(3, 2, 3) % 3)],
    "index": [lambda x, i, b, m: m[:, i % 3], lambda x, i, b, m: m[i[:3] % 3, :, i[:3] % 2], lambda x, i, b, m: x[torch.tensor([0, -1])],
              lambda x, i, b, m: x[torch.arange(24) > 20]],
    "index_put": [lambda x, i, b, m: x.index_put((i[:5].abs(),), x[:5]), lambda x, i, b, m: m.index_put((i[:5] % 3, i[:5] % 2), x[:5, None], accumulate=True),
                  lambda x, i, b, m: x.index_put((b,), x[0])],
    "_unsafe_index": [lambda x, i, b, m: aten._unsafe_index(m, [None, i % 3])],
    "_unsafe_index_put": [lambda x, i, b, m: aten._unsafe_index_put(x, [i[:5].abs()], x[:5])],
    "index_select": [lambda x, i, b, m: m.index_select(1, i[:4].abs() % 3)],
    "scatter": [lambda x, i, b, m: x.scatter(0, i[:5].abs(), x[:7]), lambda x, i, b, m: x.scatter(0, i[:5].abs(), 1.0)],
    "scatter_add": [lambda x, i, b, m: m.scatter_add(1, i[:18].abs().view(3, 2, 3) % 3, 2 * m)],
}  # fmt: skip
REDUCTIONS: dict[str, Row] = {
    "all": [lambda x, i, b, m: (m > -9).all(1), lambda x, i, b, m: i.all()],
    "amax": [lambda x, i, b, m: m.amax((0, 1))],
    "amin": [lambda x, i, b, m: m.amin(-1, keepdim=True)],
    "any": [lambda x, i, b, m: (m > 0.5).any(-1), lambda x, i, b, m: i.any()],
    "argmax": [lambda x, i, b, m: m.argmax(1, keepdim=True), lambda x, i, b, m: x.argmax()],
    "argmin": [lambda x, i, b, m: m.argmin(-1), lambda x, i, b, m: x.sum().argmin()],
    "cummax": [lambda x, i, b, m: m.cummax(1)[0], lambda x, i, b, m: i.cummax(0)[1]],
    "cummin": [lambda x, i, b, m: m.cummin(-1)[1], lambda x, i, b, m: x.log().cummin(0)[0]],
    "cumprod": [lambda x, i, b, m: m.cumprod(1)],
    "cumsum": [lambda x, i, b, m: m.cumsum(-1), lambda x, i, b, m: b.cumsum(0)],
    "logcumsumexp": [lambda x, i, b, m: m.logcumsumexp(-1)],
    "max": [lambda x, i, b, m: m.max(1)[0], lambda x, i, b, m: m.max(-1, keepdim=True)[1], lambda x, i, b, m: aten.max(x)],
    "mean": [lambda x, i, b, m: m.mean(), lambda x, i, b, m: m.mean((0, -1), keepdim=True)],
    "min": [lambda x, i, b, m: m.min(1)[1], lambda x, i, b, m: aten.min(i)],
    "prod": [lambda x, i, b, m: m.prod(-1), lambda x, i, b, m: x.prod()],
    "sum": [lambda x, i, b, m: m.sum((0, 2)), lambda x, i, b, m: b.sum(), lambda x, i, b, m: (x * x).sum(dtype=torch.float32)],
    "var": [lambda x, i, b, m: m.var(1), lambda x, i, b, m: x.var(correction=0), lambda x, i, b, m: m.var((0, 1), keepdim=True)],
}  # fmt: skip
SORTING: dict[str, Row] = {
    "bucketize": [lambda x, i, b, m: torch.bucketize(x, x.sort()[0][::3].contiguous())],
    "kthvalue": [lambda x, i, b, m: m.kthvalue(2, -1)[0], lambda x, i, b, m: x.kthvalue(3, keepdim=True)[1]],
    "median": [lambda x, i, b, m: x.median(), lambda x, i, b, m: m.median(1)[0], lambda x, i, b, m: x.log().median(), lambda x, i, b, m: i.median()],
    "searchsorted": [lambda x, i, b, m: torch.searchsorted(x.sort()[0], x, right=True), lambda x, i, b, m: torch.searchsorted(m.sort(-1)[0], m)],
    "sort": [lambda x, i, b, m: m.sort(1)[0], lambda x, i, b, m: torch.sort(x, stable=True, descending=True)[1], lambda x, i, b, m: x.log().sort()[0]],
    "topk": [lambda x, i, b, m: x.topk(5)[0], lambda x, i, b, m: m.topk(2, 1, largest=False)[1]],
}  # fmt: skip
LINEAR_ALGEBRA: dict[str, Row] = {
    "addmm": [lambda x, i, b, m: torch.addmm(x[:3], m[0], m[1], beta=0.5, alpha=2)],
    "addmv": [lambda x, i, b, m: torch.addmv(x[:3], m[0], x[3:6])],
    "baddbmm": [lambda x, i, b, m: torch.baddbmm(m, m, m)],
    "bmm": [lambda x, i, b, m: torch.bmm(m, m)],
    "mm": [lambda x, i, b, m: m[0] @ m[1]],
    "mv": [lambda x, i, b, m: m[0] @ x[:3]],
    "dot": [lambda x, i, b, m: torch.dot(x, x)],
    "cholesky_inverse": [lambda x, i, b, m: torch.cholesky_inverse(torch.linalg.cholesky(positive(m)))],
    "cholesky_solve": [lambda x, i, b, m: torch.cholesky_solve(m, torch.linalg.cholesky(positive(m))), lambda x, i, b, m: torch.cholesky_solve(m[0], positive(m)[1].triu(), upper=True)],
    "linalg_cholesky_ex": [lambda x, i, b, m: torch.linalg.cholesky(positive(m)), lambda x, i, b, m: torch.linalg.cholesky(positive(m), upper=True)],
    "linalg_inv_ex": [lambda x, i, b, m: torch.linalg.inv(m)],
    "linalg_lu_factor_ex": [lambda x, i, b, m: torch.linalg.lu_factor(m)[0], lambda x, i, b, m: torch.linalg.lu_factor(m)[1]],
    "linalg_lu_solve": [lambda x, i, b, m: torch.linalg.lu_solve(*torch.linalg.lu_factor(m), m, adjoint=True), lambda x, i, b, m: torch.linalg.lu_solve(*torch.linalg.lu_factor(m), m, left=False)],
    "lu_unpack": [lambda x, i, b, m: torch.lu_unpack(*torch.linalg.lu_factor(m))[0] @ m, lambda x, i, b, m: torch.lu_unpack(*torch.linalg.lu_factor(m))[1]],
    "linalg_matrix_exp": [lambda x, i, b, m: torch.linalg.matrix_exp(m)],
    "linalg_qr": [lambda x, i, b, m: torch.linalg.qr(m)[0].abs(), lambda x, i, b, m: torch.linalg.qr(m[0, :, :2], mode="complete")[1].abs()],
    "linalg_solve_triangular": [lambda x, i, b, m: torch.linalg.solve_triangular(positive(m).triu(), m, upper=True, left=False),
                                lambda x, i, b, m: torch.linalg.solve_triangular(m.tril(), m[0], upper=False, unitriangular=True)],
    "triangular_solve": [lambda x, i, b, m: torch.triangular_solve(m, positive(m), upper=False, transpose=True)[0]],
    "_linalg_det": [lambda x, i, b, m: torch.linalg.det(m)],
    "_linalg_eigh": [lambda x, i, b, m: torch.linalg.eigh(positive(m))[0], lambda x, i, b, m: torch.linalg.eigh(positive(m))[1].abs(), lambda x, i, b, m: torch.linalg.eigvalsh(positive(m))],
    "_linalg_slogdet": [lambda x, i, b, m: torch.linalg.slogdet(m)[0], lambda x, i, b, m: torch.linalg.slogdet(m)[1]],
    "_linalg_solve_ex": [lambda x, i, b, m: torch.linalg.solve(m, m.mT), lambda x, i, b, m: torch.linalg.solve(m, m[:, 0]), lambda x, i, b, m: torch.linalg.solve(m, m.mT, left=False)],
    "_linalg_svd": [lambda x, i, b, m: torch.linalg.svd(m)[1], lambda x, i, b, m: torch.linalg.svdvals(m), lambda x, i, b, m: torch.linalg.svd(m[:, :2], full_matrices=False)[2].abs()],
    "_linalg_check_errors": [lambda x, i, b, m: torch.linalg.cholesky(positive(m))],
}  # fmt: skip


def _pull(fn: Callable[[torch.Tensor], torch.Tensor], x: torch.Tensor) -> torch.Tensor:
    """The gradient of a sum of squares, with respect to what a function is called with."""
    x = x.detach().requires_grad_()
    return torch.autograd.grad(fn(x).square().sum(), x)[0]


CONVOLUTIONS: dict[str, Row] = {
    "convolution": [
        lambda x, i, b, m: F.conv1d(x.view(2, 3, 4), x[:18].view(2, 3, 3), x[:2], padding=1, stride=2),
        lambda x, i, b, m: F.conv2d(gapped(x, 1, 2, 6, 5), gapped(x, 4, 1, 3, 2), groups=2, dilation=(1, 2)),
        lambda x, i, b, m: F.conv_transpose2d(gapped(x, 1, 4, 3, 4), gapped(x, 4, 3, 3, 2), x[:6], stride=(2, 1), padding=1, output_padding=(1, 0), groups=2),
        lambda x, i, b, m: F.conv_transpose1d(x.view(2, 3, 4), x[:18].view(3, 2, 3), dilation=2),
    ],
    "convolution_backward": [
        lambda x, i, b, m: _pull(lambda w: F.conv2d(gapped(x, 1, 2, 6, 5), w, padding=1, stride=2), gapped(x, 4, 2, 3, 2)),
        lambda x, i, b, m: _pull(lambda y: F.conv2d(y, gapped(x, 4, 1, 3, 2), groups=2), gapped(x, 1, 2, 6, 5)),
        lambda x, i, b, m: _pull(lambda c: F.conv1d(x.view(2, 3, 4), x[:18].view(2, 3, 3), c), x[:2]),
        lambda x, i, b, m: _pull(lambda w: F.conv_transpose2d(gapped(x, 1, 4, 3, 4), w, stride=2, groups=2), gapped(x, 4, 3, 3, 2)),
        lambda x, i, b, m: _pull(lambda y: F.conv_transpose2d(y, gapped(x, 4, 3, 3, 2), stride=2, padding=1), gapped(x, 1, 4, 3, 4)),
    ],
    "avg_pool2d": [lambda x, i, b, m: F.avg_pool2d(gapped(x, 1, 2, 6, 5), 2), lambda x, i, b, m: F.avg_pool2d(gapped(x, 1, 2, 6, 5), 3, 2, 1),
                   lambda x, i, b, m: F.avg_pool2d(gapped(x, 2, 6, 5), 3, 2, 1, ceil_mode=True, count_include_pad=False)],
    "avg_pool2d_backward": [lambda x, i, b, m: _pull(lambda y: F.avg_pool2d(y, 3, 2, 1), gapped(x, 1, 2, 6, 5))],
    "avg_pool3d": [lambda x, i, b, m: F.avg_pool3d(gapped(x, 1, 2, 4, 3, 5), 2)],
    "avg_pool3d_backward": [lambda x, i, b, m: _pull(lambda y: F.avg_pool3d(y, (1, 2, 3), 1), gapped(x, 1, 2, 4, 3, 5))],
    "max_pool3d_with_indices": [lambda x, i, b, m: F.max_pool3d(gapped(x, 1, 2, 4, 3, 5), 2, 1)],
    "max_pool3d_with_indices_backward": [lambda x, i, b, m: _pull(lambda y: F.max_pool3d(y, 2, 1), gapped(x, 1, 2, 4, 3, 5))],
    "max_pool2d_with_indices": [lambda x, i, b, m: F.max_pool2d(gapped(x, 1, 2, 6, 5), 3, 2, 1), lambda x, i, b, m: F.max_pool2d(gapped(x, 2, 6, 5), (2, 3), return_indices=True)[1]],
    "max_pool2d_with_indices_backward": [lambda x, i, b, m: _pull(lambda y: F.max_pool2d(y, 3, 1, 1), gapped(x, 1, 2, 6, 5))],
}  # fmt: skip
IMPLICIT: dict[str, Row] = {
    "_standard_gamma_grad": [lambda x, i, b, m, s=s: torch._standard_gamma_grad(s * torch.ones(24, dtype=x.dtype), s * (1 + x).abs() ** 3) for s in (0.4, 3.0, 12.0)]
    + [lambda x, i, b, m: torch._standard_gamma_grad(12.0 * torch.ones(24, dtype=x.dtype), 12 * (1 + 0.08 * x))],
    "_dirichlet_grad": [lambda x, i, b, m, a=a, c=c: torch._dirichlet_grad((1 + x) / 2, a + 0 * x, a + c + 0 * x) for a, c in ((0.4, 0.7), (3.0, 9.0), (30.0, 40.0), (0.5, 20.0), (20.0, 0.5))]
    + [lambda x, i, b, m: torch._dirichlet_grad(0.5 + 0.001 * x, 30 + 0 * x, 60 + 0 * x)],
}  # fmt: skip
FAMILIES = {
    "pointwise": POINTWISE, "made": MADE, "shapes": SHAPES, "indexing": INDEXING, "reductions": REDUCTIONS, "sorting": SORTING, "linear algebra": LINEAR_ALGEBRA,
    "convolutions": CONVOLUTIONS, "implicit": IMPLICIT,
}  # fmt: skip
