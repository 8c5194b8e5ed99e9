"""Products, solutions and factors of matrices at the borders of what BLAS, LAPACK and our own loops each do, against torch."""

from __future__ import annotations

import math

import pytest
import torch
from torch.linalg import solve_triangular

from vbayes.staging.machine_code import compile_native
from vbayes.staging.native import blas, show
from vbayes.staging.native.fold import fold

TYPES = {torch.float32: 2e-5, torch.float64: 1e-13}
"""What a sum of terms of size 1 may be wrong by, in each of its terms."""


def normal(*shape, dtype=torch.float32, seed=0):
    return torch.randn(*shape, dtype=dtype, generator=torch.Generator().manual_seed(seed))


def both_types(sizes):
    """Each size with one of the types; the others are slow."""
    pairs = [(size, list(TYPES)[(number + other) % 2], other) for number, size in enumerate(sizes) for other in (0, 1)]
    return [
        pytest.param(size, dtype, marks=[pytest.mark.slow] * other, id=f"{size} {dtype}")
        for size, dtype, other in pairs
    ]


def holds(named, inputs, terms):
    """All functions in one program."""
    functions = list(named.values())
    native = compile_native(lambda *given: [fn(*given) for fn in functions], inputs)
    near = TYPES[inputs[0].dtype] * max(1, terms) ** 0.5
    for name, mine in zip(named, native(*inputs), strict=True):
        right = named[name](*inputs)
        assert mine.shape == right.shape and mine.dtype == right.dtype, name
        torch.testing.assert_close(mine, right, rtol=near, atol=near, msg=lambda m, name=name: f"{name}: {m}")
    return native


PRODUCTS = {
    "mm": lambda a, b, at, bt, w: a @ b, "turned": lambda a, b, at, bt, w: at.t() @ b, "the other": lambda a, b, at, bt, w: a @ bt.t(),
    "both": lambda a, b, at, bt, w: at.t() @ bt.t(), "a part of rows": lambda a, b, at, bt, w: w[:, 1 : 1 + a.shape[1]] @ b,
    "every other column": lambda a, b, at, bt, w: w[:, ::2] @ b, "one row many times": lambda a, b, at, bt, w: a[:1].expand(a.shape) @ b,
    "one column many times": lambda a, b, at, bt, w: a @ b[:, :1].expand(b.shape), "mv": lambda a, b, at, bt, w: a @ b[:, 0],
    "mv of a turned one": lambda a, b, at, bt, w: at.t() @ bt[0], "mv, apart": lambda a, b, at, bt, w: w[:, ::2] @ b[:, 0], "vm": lambda a, b, at, bt, w: a[0] @ b,
    "vm of a turned one": lambda a, b, at, bt, w: at[:, 0] @ bt.t(), "one number many times": lambda a, b, at, bt, w: a @ b[0, 0].expand(b.shape[0]),
    "a stack": lambda a, b, at, bt, w: torch.stack([a, a + 1]) @ b.expand(2, *b.shape), "outer": lambda a, b, at, bt, w: a[:, :1] @ b[:1], "reversed": lambda a, b, at, bt, w: a @ b.flip(0),
}  # fmt: skip
SIZES = [(1, 1, 1), (1, 5000, 1), (5000, 1, 1), (1, 3, 5000), (17, 17, 17), (33, 1, 130), (129, 7, 65), (2, 300, 257), (257, 301, 1), (1030, 258, 1)]  # fmt: skip


@pytest.mark.parametrize(("size", "dtype"), both_types(SIZES))
def test_products(size, dtype):
    """Shapes on either side of `blas.ENOUGH` and `blas.LONG`, and of four and eight rows, which our own loops take together."""
    m, k, n = size
    a, b, at, bt, w = (normal(*shape, dtype=dtype) for shape in ((m, k), (k, n), (k, m), (n, k), (m, 2 * k)))
    holds(PRODUCTS, [a, b, at, bt, w], k)


@pytest.mark.parametrize("size", [(0, 5, 3), (3, 0, 5), (5, 3, 0), (100, 0, 100)], ids=str)
def test_products_of_nothing(size):
    m, k, n = size
    a, b = normal(m, k), normal(k, n)
    holds({"mm": lambda a, b: a @ b, "mv": lambda a, b: b.t() @ a.t()}, [a, b], 1)


def test_sums_do_not_hang_on_the_number_of_threads():
    """Each result is one thread's."""
    a, x, y = normal(700, 3001), normal(3001), normal(700)
    native, before = compile_native(lambda a, x, y: [a @ x, a.t() @ y], [a, x, y]), torch.get_num_threads()
    assert "sdots(" in native.source and "scombined(" in native.source and 700 * 3001 > 2**20
    made = []
    for threads in (1, 2, 3):
        torch.set_num_threads(threads)
        made.append(native(a, x, y))
    torch.set_num_threads(before)
    assert all(torch.equal(one, other) for each in made[1:] for one, other in zip(made[0], each, strict=True))


SOLUTIONS = {
    "lower": lambda a, b, bt, w: solve_triangular(a, b, upper=False), "upper": lambda a, b, bt, w: solve_triangular(a.t(), b, upper=True),
    "upper, copied": lambda a, b, bt, w: solve_triangular(a.t().contiguous(), bt.t(), upper=True), "lower of the turned": lambda a, b, bt, w: solve_triangular(a.t().contiguous().t(), b, upper=False),
    "ones": lambda a, b, bt, w: solve_triangular(a, b, upper=False, unitriangular=True), "ones, upper": lambda a, b, bt, w: solve_triangular(a.t(), b, upper=True, unitriangular=True),
    "right": lambda a, b, bt, w: solve_triangular(a, bt, upper=False, left=False), "apart": lambda a, b, bt, w: solve_triangular(w[..., 0], b, upper=False),
    "a stack": lambda a, b, bt, w: solve_triangular(a.expand(2, *a.shape), torch.stack([b, b + 1]), upper=False), "cholesky_solve": lambda a, b, bt, w: torch.cholesky_solve(b, a),
    "cholesky": lambda a, b, bt, w: torch.linalg.cholesky(a @ a.t()), "cholesky of a stack": lambda a, b, bt, w: torch.linalg.cholesky(torch.stack([a @ a.t(), 2 * a @ a.t()])),
}  # fmt: skip


@pytest.mark.parametrize(("size", "dtype"), both_types([(0, 3), (1, 1), (3, 0), (1, 5000), (7, 3), (16, 17), (17, 1), (65, 1), (64, 1), (70, 5)]))  # fmt: skip
def test_solutions_and_factors(size, dtype):
    n, m = size
    a = (normal(n, n, dtype=dtype) / max(1, n)).tril() + 2 * torch.eye(n, dtype=dtype)
    dirty = a + normal(n, n, dtype=dtype, seed=1).triu(1)  # what is not of the triangle is not read
    b, bt, w = normal(n, m, dtype=dtype), normal(m, n, dtype=dtype), torch.stack([a, a], -1)
    holds(SOLUTIONS, [a, b, bt, w], n)
    one_sided = {name: fn for name, fn in SOLUTIONS.items() if name in ("lower", "upper", "ones", "right", "apart")}
    holds(one_sided, [dirty, b, bt, torch.stack([dirty, a], -1)], n)


@pytest.mark.parametrize("n", [5, 40])
def test_a_matrix_without_a_factor_has_nan_from_its_row_on(n):
    """By our own loop and by LAPACK, in the matrix that has none and no other."""
    a = normal(n, n, dtype=torch.float64)
    good = a @ a.t() + torch.eye(n, dtype=torch.float64)
    bad = good.clone()
    bad[3, 3] = -1.0
    both = torch.stack([good, bad])
    native = compile_native(lambda s: [torch.linalg.cholesky_ex(s)[0]], [both])
    (made,) = native(both)
    torch.testing.assert_close(made[0], torch.linalg.cholesky(good))
    assert made[1].diagonal().isnan().tolist() == [i >= 3 for i in range(n)]
    torch.testing.assert_close(made[1, :3, :3], torch.linalg.cholesky(bad[:3, :3]))


def test_an_outer_product_is_made_where_it_is_read():
    """It takes no memory; one that is small is what it was."""
    u, v = normal(80, 1), normal(1, 70)
    native = compile_native(lambda u, v: [(u @ v).exp().sum(1)], [u, v])
    assert "product(" not in show(native.translation.graph) and native.translation.layout.work < 80 * 70
    torch.testing.assert_close(native(u, v)[0], (u @ v).exp().sum(1))
    assert u.numel() * v.numel() > blas.ENOUGH


@pytest.mark.parametrize("n", [3, 300])
def test_what_is_the_same_in_every_step_is_made_once(n):
    """A triangle as a constant; torch's own rule for `eye` fails from 257 on, where it would count in a type that nothing counts in."""
    x = normal(n, n)
    native = compile_native(lambda x: [x.tril(-1) + torch.eye(n), x.triu() * torch.eye(n, n)], [x])
    masks = [c for c in native.translation.folded.constants if c.dtype == torch.bool]
    assert len(masks) == (3 if n == 300 else 0) and not native.translation.graph.constants
    for mine, right in zip(native(x), (x.tril(-1) + torch.eye(n), x.diag().diag()), strict=True):
        assert torch.equal(mine, right)
    assert fold(native.translation.folded) is native.translation.folded


@pytest.mark.parametrize("n", [5, 500])
def test_a_logarithm_of_what_is_true_or_false(n):
    """As a `Delta` has it: nothing or minus infinity."""
    x = torch.arange(float(n))
    native = compile_native(lambda x: [(x == 3).log(), (x >= 0).to(torch.float64).log().sum(), (x[:1] > 0).log()], [x])
    first, second, third = native(x)
    assert first.tolist() == [0.0 if i == 3 else -math.inf for i in range(n)] and second.item() == 0.0
    assert third.tolist() == [-math.inf] and second.dtype == torch.float64
    assert ("log" in show(native.translation.graph)) == (n == 5 or "log(" in show(native.translation.graph))


def test_a_sum_of_outer_products_is_one_product():
    """Behind a sign, a mask, factors that depend on no term and dimensions of size 1; what is no such sum stays what it was."""
    u, v, w, m = normal(9, 40), normal(9, 30), normal(40, 30), normal(40, 30) > 0
    named = {
        "plain": lambda u, v, w, m: (u[:, :, None] * v[:, None]).sum(0),
        "turned": lambda u, v, w, m: (v[:, None] * u[:, :, None]).sum(0).t(),
        "mask": lambda u, v, w, m: torch.where(m, -(u[:, :, None] * v[:, None]), 0.0).sum(0),
        "factors": lambda u, v, w, m: (3 * (u[:, :, None] * v[:, None] * w)).sum(0, keepdim=True),
        "the last": lambda u, v, w, m: (u.t()[:, None] * v.t()[None]).sum(2),
        "one more": lambda u, v, w, m: (u[:, None, :, None] * v[:, None, None]).sum((0, 1)),
        "a mask of its own": lambda u, v, w, m: torch.where(v[:, None] > 0, u[:, :, None] * v[:, None], 0.0).sum(0),
        "exp": lambda u, v, w, m: (u[:, :, None] * v[:, None]).exp().sum(0),
        "two": lambda u, v, w, m: (u[:, :, None] * v[:, None]).sum((0, 1)),
        "else 1": lambda u, v, w, m: torch.where(m, u[:, :, None] * v[:, None], 1.0).sum(0),
    }
    native = holds(named, [u, v, w, m], 9)
    assert show(native.translation.folded).count("= product(") == 6
    few = compile_native(lambda u, v: [(u[:, :3, None] * v[:, None, :3]).sum(0)], [u, v])
    assert "product(" not in show(few.translation.folded)  # small programs keep their numbers to the last bit


def test_a_product_lies_the_way_it_is_read():
    """Read column after column, it is laid down so, and whoever reads it finds the same elements; not so where it is an output itself."""
    x, w = normal(50, 20), normal(16, 20)
    named = {
        "columns": lambda x, w: (x @ w.t()).t().exp(),
        "sums": lambda x, w: (x @ w.t()).t()[None].exp().sum(2),
        "rows": lambda x, w: (x @ w.t()).exp().sum(1),
        "a product": lambda x, w: (x @ w.t()).t() @ x,
        "an output": lambda x, w: x @ w.t(),
        "one row": lambda x, w: (x @ w.t())[3] + (x @ w.t()).t().sum(1),
        "some": lambda x, w: (x @ w.t()).t()[2:5].exp(),
        "flat": lambda x, w: (x @ w.t()).reshape(-1).exp(),
        "windows": lambda x, w: (x @ w.t()).unfold(0, 3, 1).exp(),
        "over the ends": lambda x, w: (
            (x @ w.t()).as_strided((20, 7), (16, 16)).exp() + (x @ w.t()).as_strided((20, 7), (1, 1))
        ),
    }
    native = holds(named, [x, w], 20)
    text = show(native.translation.folded)
    assert text.count("float32[16, 50] = product(") == 5 and text.count("float32[50, 16] = product(") == 7


def test_one_solve_for_a_stack_of_columns():
    """As K particles of a full-rank normal have it."""
    a, b = normal(40, 40).tril() / 40 + 2 * torch.eye(40), normal(9, 40)
    named = {
        "lower": lambda a, b: torch.vmap(lambda c: solve_triangular(a, c[:, None], upper=False)[:, 0])(b),
        "upper": lambda a, b: torch.vmap(lambda c: solve_triangular(a.t(), c[:, None], upper=True)[:, 0])(b),
        "ones": lambda a, b: torch.vmap(lambda c: solve_triangular(a, c[:, None], upper=False, unitriangular=True))(b),
        "one each": lambda a, b: solve_triangular(torch.stack([a, 2 * a]), b[:2, :, None], upper=False),
    }
    native = holds(named, [a, b], 40)
    assert native.source.count('strsm("L"') == 3
