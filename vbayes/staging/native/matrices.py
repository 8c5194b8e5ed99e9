"""C for products and factors of matrices. Large products go to the BLAS that torch itself uses."""

from __future__ import annotations

import math

import torch

from .addresses import index, nest
from .arrays import Names
from .c_numbers import TYPES
from .ir import Cholesky, Product, Triangular, View

SMALL = 4096  # multiplications up to which calling BLAS costs more than multiplying


def product(value: Product, names: Names) -> str:
    """By BLAS, or by three loops, each for the shapes that it is good at."""
    a, b = value.views
    *batch, m, n = value.shape
    k, t = a.shape[-1], TYPES[value.dtype]
    stacks = len(batch) == 1
    (sa, ra, ca), (sb, rb, cb) = ((v.strides[0] if stacks else 0, *v.strides[-2:]) for v in (a, b))
    A, B = f"({names[a.value]} + {a.offset} + s * {sa})", f"({names[b.value]} + {b.offset} + s * {sb})"
    C = f"({names[value]} + s * {m * n})"
    blas_a, blas_b = _blas(m, k, ra, ca), _blas(k, n, rb, cb)
    if m * n * k > SMALL and min(m, n) > 1 and blas_a and blas_b:
        # Row-major C = A B is column-major C' = B' A'.
        (ta, lda), (tb, ldb) = blas_a, blas_b
        gemm = "sgemm" if value.dtype == torch.float32 else "dgemm"
        text = f"""    const int m = {m}, n = {n}, k = {k}, lda = {lda}, ldb = {ldb};
    const {t} one = 1, zero = 0;
    {gemm}("{tb}", "{ta}", &n, &m, &k, &one, {B}, &ldb, {A}, &lda, &zero, {C}, &n);"""
    elif n == 1 and ca <= 1:  # rows lie together: a dot product each
        text = f"""    for (long i = 0; i < {m}; i++) {{
      {t} total = 0;
      #pragma omp simd reduction(+:total)
      for (long l = 0; l < {k}; l++) total += {A}[i * {ra} + l * {ca}] * {B}[l * {rb}];
      {C}[i] = total;
    }}"""
    elif n == 1:
        text = f"""    memset({C}, 0, {m} * sizeof({t}));
    for (long l = 0; l < {k}; l++) {{
      const {t} x = {B}[l * {rb}];
      for (long i = 0; i < {m}; i++) {C}[i] += x * {A}[i * {ra} + l * {ca}];
    }}"""
    else:
        inner = f"for (long j = 0; j < {n}; j++) {C}[i * {n} + j] += x * {B}[l * {rb} + j * {cb}];"
        text = f"""    memset({C}, 0, {m * n} * sizeof({t}));
    for (long i = 0; i < {m}; i++)
      for (long l = 0; l < {k}; l++) {{
        const {t} x = {A}[i * {ra} + l * {ca}];
        {inner}
      }}"""
    return f"  for (long s = 0; s < {math.prod(batch)}; s++) {{\n{text}\n  }}"


def _blas(rows: int, columns: int, row: int, column: int) -> tuple[str, int] | None:
    """BLAS's words for a matrix with these strides: not transposed or so, and how far apart its rows are."""
    if (column == 1 or columns == 1) and row >= columns:
        return "N", row
    if (row == 1 or rows == 1) and column >= rows:
        return "T", column
    return None


def cholesky(value: Cholesky, names: Names) -> str:
    """Column after column."""
    (a,) = value.views
    n, depth, t = value.shape[-1], len(value.shape) - 2, TYPES[value.dtype]
    f = "f" if value.dtype == torch.float32 else ""
    *outer, row, column = a.strides
    text = f"""{{
      const {t}* restrict a = {names[a.value]} + {index(a.offset, tuple(outer))};
      {t}* restrict c = {names[value]} + {index(0, View.whole(value).strides[:depth])};
      memset(c, 0, {n * n} * sizeof({t}));
      for (long j = 0; j < {n}; j++)
        for (long i = j; i < {n}; i++) {{
          {t} x = a[i * {row} + j * {column}];
          for (long l = 0; l < j; l++) x -= c[i * {n} + l] * c[j * {n} + l];
          c[i * {n} + j] = i == j ? sqrt{f}(x) : x / c[j * {n} + j];
        }}
    }}"""
    return nest(value.shape[:depth], text)


def triangular(value: Triangular, names: Names) -> str:
    """Row after row, from the end where one number alone is asked for."""
    a, b = value.views
    (n, m), depth, t = value.shape[-2:], len(value.shape) - 2, TYPES[value.dtype]
    a = a.expand((*value.shape[:depth], n, n))
    b = b.expand(value.shape)
    (*outer_a, ra, ca), (*outer_b, rb, cb) = a.strides, b.strides
    rows, known = f"r = 0; r < {n}; r++", "l = 0; l < r; l++"
    if value.upper:
        rows, known = f"r = {n - 1}; r >= 0; r--", f"l = r + 1; l < {n}; l++"
    divide = "" if value.unit else f"for (long j = 0; j < {m}; j++) x[r * {m} + j] /= a[r * {ra} + r * {ca}];"
    text = f"""{{
      const {t}* restrict a = {names[a.value]} + {index(a.offset, tuple(outer_a))};
      const {t}* restrict b = {names[b.value]} + {index(b.offset, tuple(outer_b))};
      {t}* restrict x = {names[value]} + {index(0, View.whole(value).strides[:depth])};
      for (long {rows}) {{
        for (long j = 0; j < {m}; j++) x[r * {m} + j] = b[r * {rb} + j * {cb}];
        for (long {known})
          for (long j = 0; j < {m}; j++) x[r * {m} + j] -= a[r * {ra} + l * {ca}] * x[l * {m} + j];
        {divide}
      }}
    }}"""
    return nest(value.shape[:depth], text)
