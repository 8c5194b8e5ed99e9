"""C that calls BLAS and LAPACK: how they describe a matrix with given strides, and their functions."""

from __future__ import annotations

import torch

ENOUGH = 4096  # multiplications up to which a call costs more than multiplying
LARGEST = 2**31 - 1  # of the integers that it takes
LONG = 256  # elements of a row, or else a column, from which our own loops are at least as quick as BLAS
SHARED = 2**24  # multiplications from which two threads share a product: some 400 µs
NAMES = ("gemm", "gemv", "trsm", "potrf")
"""Names without the letter of the type, in the order in which `runtime.h` gets their addresses, each for floats and for doubles."""

Words = tuple[str, int]
"""Transposed ("T") or not ("N"), from the view of a row-major matrix; and how far apart its rows, or else its columns, are."""


def words(rows: int, columns: int, row: int, column: int) -> Words | None:
    """For a matrix with these strides; None where neither its rows nor its columns lie together.

    Args:
        row, column: Elements from one row to the next, and from one column to the next; 0 where there is only one.
    """
    if (column == 1 or columns == 1) and row >= columns:
        return "N", row
    if (row == 1 or rows == 1) and column >= rows:
        return "T", column
    return None


def letter(dtype: torch.dtype) -> str:
    """What the name of a function begins with."""
    return "s" if dtype == torch.float32 else "d"


def _alone(call: str, multiplications: int) -> str:
    """Makes a call that would gain little from a second thread run on this thread only."""
    return f"ALONE({call})" if multiplications < SHARED else f"{call};"


def gemm(dtype: torch.dtype, size: tuple[int, int, int], a: Words, b: Words, A: str, B: str, C: str) -> str:
    """(m, k) @ (k, n), written to C by `products.c` if the processor has it, otherwise by BLAS.

    Args:
        size: m, n, k.
        A, B, C: Pointers. Row-major C = A B is column-major C' = B' A'.
    """
    m, n, k = size
    (ta, lda), (tb, ldb), f = a, b, letter(dtype)
    call = f'{f}gemm("{tb}", "{ta}", &n, &m, &k, &{f}one, {B}, &ldb, {A}, &lda, &{f}zero, {C}, &n)'
    (ra, ca), (rb, cb) = ((step, 1) if how == "N" else (1, step) for how, step in (a, b))
    threads = "threads" if m * n * k >= SHARED else 1
    return f"""    if ({f}product) {f}product({m}, {n}, {k}, {A}, {ra}, {ca}, {B}, {rb}, {cb}, {C}, {threads});
    else {{
      const int m = {m}, n = {n}, k = {k}, lda = {lda}, ldb = {ldb};
      {_alone(call, m * n * k)}
    }}"""


def gemv(dtype: torch.dtype, rows: int, columns: int, a: Words, A: str, x: str, step: int, y: str) -> str:
    """(rows, columns) @ (columns,), written to y, by BLAS or by `runtime.h`; `step` is how far apart the elements of x are."""
    f, (how, lda) = letter(dtype), a
    n, m = (columns, rows) if how == "N" else (rows, columns)  # what lies together, and how many of those there are
    if n >= LONG and step == 1:
        return f"    {f}{'dots' if how == 'N' else 'combined'}({y}, {A}, {x}, {m}, {n}, {lda});"
    turned = "T" if how == "N" else "N"
    call = f'{f}gemv("{turned}", &n, &m, &{f}one, {A}, &lda, {x}, &step, &{f}zero, {y}, &together)'
    return f"""    const int n = {n}, m = {m}, lda = {lda}, step = {step}, together = 1;
    {_alone(call, n * m)}"""


def trsm(dtype: torch.dtype, n: int, m: int, a: Words, *, upper: bool, unit: bool, A: str, X: str) -> str:
    """X of A X = B, over B, which is (n, m) and row-major; that is X' A' = B' in columns."""
    f, (how, lda) = letter(dtype), a
    call = f'{f}trsm("R", "{_triangle(how, upper)}", "{how}", "{_diagonal(unit)}", &m, &n, &{f}one, {A}, &lda, {X}, &m)'
    return f"""      const int n = {n}, m = {m}, lda = {lda};
      {_alone(call, n * n * m)}"""


def trsm_of_columns(dtype: torch.dtype, n: int, m: int, a: Words, *, upper: bool, unit: bool, A: str, X: str) -> str:
    """The same where X and B are (m, n): the columns of X lie together."""
    f, (how, lda) = letter(dtype), a
    other = "T" if how == "N" else "N"
    call = (
        f'{f}trsm("L", "{_triangle(how, upper)}", "{other}", "{_diagonal(unit)}", &n, &m, &{f}one, {A}, &lda, {X}, &n)'
    )
    return f"""      const int n = {n}, m = {m}, lda = {lda};
      {_alone(call, n * n * m)}"""


def _triangle(how: str, upper: bool) -> str:
    """That of the columns that lie in memory."""
    return "U" if upper == (how == "T") else "L"


def _diagonal(unit: bool) -> str:
    return "U" if unit else "N"


def potrf(dtype: torch.dtype, n: int, X: str) -> str:
    """The lower factor over a row-major matrix, whose upper triangle is left; `wrong` is the number of its first row that has none, or 0."""
    return f"""      const int n = {n};
      int wrong = 0;
      {_alone(f'{letter(dtype)}potrf("U", &n, {X}, &n, &wrong)', n**3)}"""
