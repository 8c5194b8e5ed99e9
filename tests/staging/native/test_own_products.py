"""Our own products of matrices, for processors that BLAS does not know: at the borders of their tiles, in each layout, by any number of threads."""

from __future__ import annotations

import ctypes
import faulthandler
import itertools
import mmap
import os
import signal
import sys
import warnings
from types import SimpleNamespace

import pytest
import torch

from vbayes.staging.machine_code import compile_native
from vbayes.staging.native import build as building
from vbayes.staging.native.build import PRODUCTS, build, compiler_version

FLOATS = {torch.float32: ("smultiply", 2e-5), torch.float64: ("dmultiply", 1e-13)}
# On either side of the rows of a tile, of one and two registers, and of what is packed at a time.
SIZES = [(1, 1, 1), (3, 17, 5), (6, 16, 8), (12, 32, 16), (13, 33, 31), (25, 15, 33), (64, 384, 10), (5, 385, 40), (11, 800, 3), (2, 4, 130), (200, 70, 1)]  # fmt: skip


@pytest.fixture(autouse=True)
def made_for_gcc():
    if "clang" in compiler_version():
        pytest.skip("made for gcc; with others, programs have BLAS")


def normal(*shape, dtype, seed=0):
    return torch.randn(*shape, dtype=dtype, generator=torch.Generator().manual_seed(seed))


def multiplied(a, b, threads=1):
    """a @ b into memory full of NaN, with more of them behind that stay."""
    (m, k), n = a.shape, b.shape[1]
    memory = torch.full((m * n + 64,), torch.nan, dtype=a.dtype)
    pointer, long = ctypes.c_void_p, ctypes.c_long
    getattr(build(PRODUCTS.read_text()), FLOATS[a.dtype][0])(
        long(m), long(n), long(k), pointer(a.data_ptr()), *map(long, a.stride()), pointer(b.data_ptr()), *map(long, b.stride()),
        pointer(memory.data_ptr()), ctypes.c_int(threads),
    )  # fmt: skip
    assert memory[m * n :].isnan().all()
    return memory[: m * n].view(m, n)


def layouts(matrix):
    """By rows, by columns, and both as a part of a matrix that is NaN elsewhere."""
    rows, columns = matrix.shape
    for whole in (matrix, matrix.t()):
        wide = torch.full((whole.shape[0], whole.shape[1] + 3), torch.nan, dtype=matrix.dtype)
        wide[:, : whole.shape[1]] = whole
        for one in (whole.contiguous(), wide[:, : whole.shape[1]]):
            made = one if whole is matrix else one.t()
            # The stride of a dimension of size 1 means nothing, and is what BLAS would be told.
            steps = [max(1, step) for step in made.stride()]
            yield made.as_strided((rows, columns), steps)


@pytest.mark.parametrize("dtype", FLOATS, ids=str)
@pytest.mark.parametrize("size", SIZES, ids=str)
def test_every_layout(size, dtype):
    m, k, n = size
    near = FLOATS[dtype][1] * k**0.5
    a, b = normal(m, k, dtype=dtype), normal(k, n, dtype=dtype, seed=1)
    right = (a.double() @ b.double()).to(dtype)
    for one, other in itertools.product(layouts(a), layouts(b)):
        torch.testing.assert_close(multiplied(one, other), right, rtol=near, atol=near)


@pytest.mark.skipif(not hasattr(os, "fork") or sys.platform != "linux", reason="protects a page of a forked process")
@pytest.mark.parametrize("size", [(3, 40, 5), (3, 40, 19), (3, 5, 40)], ids=str)
def test_nothing_is_read_behind_the_last_element(size):
    """Where a register is wider than what is left of a row, it takes some of the next one: the last row has none."""
    m, k, n = size
    a, b = normal(m, k, dtype=torch.float32), normal(k, n, dtype=torch.float32, seed=1)
    pages = mmap.mmap(-1, 3 * mmap.PAGESIZE)
    memory = torch.frombuffer(pages, dtype=torch.float32)
    end = 2 * mmap.PAGESIZE // 4
    protected = ctypes.c_void_p(memory.data_ptr() + 2 * mmap.PAGESIZE)
    build(PRODUCTS.read_text())
    right = a @ b
    for transposed in (False, True):
        last = memory[end - k * n : end].view(n, k).t() if transposed else memory[end - k * n : end].view(k, n)
        last.copy_(b)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # Python's, of a process that has threads
            child = os.fork()
        if not child:
            faulthandler.disable()
            signal.alarm(60)
            kept = ctypes.CDLL(None).mprotect(protected, ctypes.c_size_t(mmap.PAGESIZE), 0) == 0
            os._exit(0 if kept and torch.allclose(multiplied(a, last), right, atol=1e-4) else 1)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


@pytest.mark.parametrize(
    "size", [(1000, 30, 5), (490, 20, 20), (97, 30, 5), (483, 20, 20), (100, 300, 400), (13, 40, 700)], ids=str
)
def test_sums_do_not_hang_on_the_number_of_threads(size):
    """Strips are shared out, and their rows where there are few of them."""
    m, k, n = size
    a, b = normal(m, k, dtype=torch.float32), normal(k, n, dtype=torch.float32, seed=1)
    alone = multiplied(a, b)
    assert all(torch.equal(multiplied(a, b, threads), alone) for threads in (2, 3, 11))


def test_programs_take_them_where_the_processor_has_them(monkeypatch):
    """And BLAS elsewhere."""
    a, b = normal(33, 70, dtype=torch.float32), normal(70, 40, dtype=torch.float32, seed=1)
    right, asked = [a @ b, (b.t() @ a.t()).exp()], []
    long, pointer = ctypes.c_long, ctypes.c_void_p
    kind = ctypes.CFUNCTYPE(None, long, long, long, pointer, long, long, pointer, long, long, pointer, ctypes.c_int)
    noted = kind(lambda *given: asked.append((*given[:3], given[-1])))
    libraries = [build(PRODUCTS.read_text()), None, SimpleNamespace(smultiply=noted, dmultiply=noted)]
    for library in libraries:
        monkeypatch.setattr(building, "products", lambda library=library: library)
        made = compile_native(lambda a, b: [a @ b, (b.t() @ a.t()).exp()], [a, b])(a, b)
        if library is not libraries[-1]:
            assert not asked
            for mine, theirs in zip(made, right, strict=True):
                torch.testing.assert_close(mine, theirs, rtol=1e-4, atol=1e-4)
    assert sorted(asked) == [(33, 40, 70, 1), (40, 33, 70, 1)]


def test_processors_that_blas_knows_keep_it(monkeypatch):
    chosen = building.products.__wrapped__
    monkeypatch.setattr(building, "_macros", lambda: b"#define __skylake_avx512 1\n")
    assert chosen() is None
    monkeypatch.setattr(building, "_macros", lambda: b"#define __znver3 1\n")
    monkeypatch.setattr(building, "blas", lambda: ([], [], 1))
    assert chosen() is not None
    monkeypatch.setattr(building, "blas", lambda: ([], [], None))
    assert chosen() is None
