"""C for products and factors of matrices. Large products go to the BLAS that torch itself uses."""

from __future__ import annotations

import math

import torch

from . import blas
from .addresses import index, nest
from .arrays import Names
from .c_numbers import TYPES
from .ir import Cholesky, Product, Triangular, View


def product(value: Product, names: Names) -> str:
    """C for a product: by BLAS if that is worth the call, otherwise by loops."""
    a, b = value.views
    *batch, m, n = value.shape
    stacks = len(batch) == 1
    (sa, ra, ca), (sb, rb, cb) = ((v.strides[0] if stacks else 0, *v.strides[-2:]) for v in (a, b))
    A, B = f"({names[a.value]} + {a.offset} + s * {sa})", f"({names[b.value]} + {b.offset} + s * {sb})"
    C = f"({names[value]} + s * {m * n})"
    how = (value.dtype, (m, n, a.shape[-1]), (ra, ca, rb, cb), (A, B, C))
    return f"  for (long s = 0; s < {math.prod(batch)}; s++) {{\n{_by_blas(*how) or _by_loops(*how)}\n  }}"


Sizes = tuple[int, int, int]
Strides = tuple[int, int, int, int]
Pointers = tuple[str, str, str]


def _by_loops(dtype: torch.dtype, size: Sizes, strides: Strides, pointers: Pointers) -> str:
    """C for a product by loops, in one of three forms, depending on the shapes."""
    (m, n, k), (ra, ca, rb, cb), (A, B, C), t = size, strides, pointers, TYPES[dtype]
    if n == 1 and ca <= 1:  # rows lie together: a dot product each
        return f"""    for (long i = 0; i < {m}; i++) {{
      {t} total = 0;
      #pragma omp simd reduction(+:total)
      for (long l = 0; l < {k}; l++) total += {A}[i * {ra} + l * {ca}] * {B}[l * {rb}];
      {C}[i] = total;
    }}"""
    if n == 1:
        return f"""    memset({C}, 0, {m} * sizeof({t}));
    for (long l = 0; l < {k}; l++) {{
      const {t} x = {B}[l * {rb}];
      for (long i = 0; i < {m}; i++) {C}[i] += x * {A}[i * {ra} + l * {ca}];
    }}"""
    inner = f"for (long j = 0; j < {n}; j++) {C}[i * {n} + j] += x * {B}[l * {rb} + j * {cb}];"
    return f"""    memset({C}, 0, {m * n} * sizeof({t}));
    for (long i = 0; i < {m}; i++)
      for (long l = 0; l < {k}; l++) {{
        const {t} x = {A}[i * {ra} + l * {ca}];
        {inner}
      }}"""


def _by_blas(dtype: torch.dtype, size: Sizes, strides: Strides, pointers: Pointers) -> str:
    """C for a product by BLAS; empty if it is not worth the call, or BLAS can't describe the operands' layout."""
    (m, n, k), (ra, ca, rb, cb), (A, B, C) = size, strides, pointers
    if m * n * k <= blas.ENOUGH or max(m, n, k, *strides) > blas.LARGEST:
        return ""
    a, b = blas.words(m, k, ra, ca), blas.words(k, n, rb, cb)
    if n == 1 and a and rb:
        return blas.gemv(dtype, m, k, a, A, B, rb, C)
    if m == 1 and ca and (turned := blas.words(n, k, cb, rb)):  # C' = B' a'
        return blas.gemv(dtype, n, k, turned, B, A, ca, C)
    return blas.gemm(dtype, size, a, b, A, B, C) if a and b and min(m, n) > 1 else ""


def cholesky(value: Cholesky, names: Names) -> str:
    """By LAPACK, or column after column."""
    (a,) = value.views
    n, depth, t = value.shape[-1], len(value.shape) - 2, TYPES[value.dtype]
    f = "f" if value.dtype == torch.float32 else ""
    *outer, row, column = a.strides
    begin = f"""
      const {t}* restrict a = {names[a.value]} + {index(a.offset, tuple(outer))};
      {t}* restrict c = {names[value]} + {index(0, View.whole(value).strides[:depth])};
      memset(c, 0, {n * n} * sizeof({t}));"""
    if n**3 > blas.ENOUGH:
        text = f"""{{{begin}
      for (long i = 0; i < {n}; i++)
        for (long j = 0; j <= i; j++) c[i * {n} + j] = a[i * {row} + j * {column}];
{blas.potrf(value.dtype, n, "c")}
      for (long i = wrong - 1; wrong && i < {n}; i++) c[i * {n} + i] = NAN;
    }}"""
        return nest(value.shape[:depth], text)
    text = f"""{{{begin}
      for (long j = 0; j < {n}; j++)
        for (long i = j; i < {n}; i++) {{
          {t} x = a[i * {row} + j * {column}];
          for (long l = 0; l < j; l++) x -= c[i * {n} + l] * c[j * {n} + l];
          c[i * {n} + j] = i == j ? sqrt{f}(x) : x / c[j * {n} + j];
        }}
    }}"""
    return nest(value.shape[:depth], text)


def triangular(value: Triangular, names: Names) -> str:
    """By BLAS; or row after row, from the end where one number alone is asked for."""
    a, b = value.views
    (n, m), depth, t = value.shape[-2:], len(value.shape) - 2, TYPES[value.dtype]
    a = a.expand((*value.shape[:depth], n, n))
    b = b.expand(value.shape)
    (*outer_a, ra, ca), (*outer_b, rb, cb) = a.strides, b.strides
    rows, known = f"r = 0; r < {n}; r++", "l = 0; l < r; l++"
    if value.upper:
        rows, known = f"r = {n - 1}; r >= 0; r--", f"l = r + 1; l < {n}; l++"
    many = math.prod(value.shape[:depth])
    if m == 1 < many and n * n * many > blas.ENOUGH and not any(outer_a) and (how := blas.words(n, n, ra, ca)):
        # One matrix and a stack of columns.
        shape = (*value.shape[:depth], n)
        to, source = index(0, View.whole(value).strides[:-1]), index(b.offset, (*outer_b, rb))
        solution = blas.trsm_of_columns(
            value.dtype,
            n,
            many,
            how,
            upper=value.upper,
            unit=value.unit,
            A=f"{names[a.value]} + {a.offset}",
            X=names[value],
        )
        return f"{nest(shape, f'{names[value]}[{to}] = {names[b.value]}[{source}];')}\n  {{\n{solution}\n  }}"
    solved = blas.words(n, n, ra, ca) if n * n * m > blas.ENOUGH and max(n, m, ra, ca) <= blas.LARGEST else None
    pointers = f"""
      const {t}* restrict a = {names[a.value]} + {index(a.offset, tuple(outer_a))};
      const {t}* restrict b = {names[b.value]} + {index(b.offset, tuple(outer_b))};
      {t}* restrict x = {names[value]} + {index(0, View.whole(value).strides[:depth])};"""
    if solved:
        text = f"""{{{pointers}
      for (long r = 0; r < {n}; r++)
        for (long j = 0; j < {m}; j++) x[r * {m} + j] = b[r * {rb} + j * {cb}];
{blas.trsm(value.dtype, n, m, solved, upper=value.upper, unit=value.unit, A="a", X="x")}
    }}"""
        return nest(value.shape[:depth], text)
    divide = "" if value.unit else f"for (long j = 0; j < {m}; j++) x[r * {m} + j] /= a[r * {ra} + r * {ca}];"
    text = f"""{{{pointers}
      for (long {rows}) {{
        for (long j = 0; j < {m}; j++) x[r * {m} + j] = b[r * {rb} + j * {cb}];
        for (long {known})
          for (long j = 0; j < {m}; j++) x[r * {m} + j] -= a[r * {ra} + l * {ca}] * x[l * {m} + j];
        {divide}
      }}
    }}"""
    return nest(value.shape[:depth], text)
