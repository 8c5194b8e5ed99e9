"""Whose BLAS programs call, and how many threads it has meanwhile."""

import threading
from types import SimpleNamespace

import pytest

from vbayes.staging.native import linear_algebra
from vbayes.staging.native.linear_algebra import OpenBLAS


def library(count):
    """One linked against an OpenBLAS with so many threads."""
    state = SimpleNamespace(count=count, sets=[])

    def put(number):
        state.count = number
        state.sets.append(number)

    return SimpleNamespace(openblas_get_num_threads=lambda: state.count, openblas_set_num_threads=put), state


def test_threads_are_given_back():
    linked, state = library(8)
    openblas = OpenBLAS(linked)
    with openblas.one_thread():
        assert state.count == 1
        with openblas.one_thread():
            assert state.count == 1
        assert state.count == 1
    assert state.count == 8 and state.sets == [1, 8]
    with pytest.raises(KeyError), openblas.one_thread():
        raise KeyError
    assert state.count == 8


def test_the_last_of_two_threads_gives_them_back():
    linked, state = library(4)
    openblas, entered, leave = OpenBLAS(linked), threading.Event(), threading.Event()

    def other():
        with openblas.one_thread():
            entered.set()
            leave.wait(60)

    with openblas.one_thread():
        thread = threading.Thread(target=other)
        thread.start()
        assert entered.wait(60)
    assert state.count == 1
    leave.set()
    thread.join()
    assert state.count == 4


def test_a_user_who_has_one_thread_keeps_it():
    linked, state = library(1)
    with OpenBLAS(linked).one_thread():
        assert state.count == 1
    assert state.sets == []


def test_products_are_by_the_faster_one(monkeypatch):
    """Where torch has MKL: by it on Intel's processors, and by SciPy's OpenBLAS, if SciPy has that, on others."""
    found = {}
    for maker in ("GenuineIntel", "AuthenticAMD", ""):
        monkeypatch.setattr(linear_algebra, "_maker", lambda maker=maker: maker)
        found[maker] = linear_algebra.blas.__wrapped__()
    intel, amd, unknown = found.values()
    assert intel.products is None and intel.floats == unknown.floats and intel.doubles == unknown.doubles
    assert all(intel.floats) and all(amd.floats)
    assert amd.floats[1:] == intel.floats[1:] and amd.doubles[1:] == intel.doubles[1:]
    assert (amd.floats[0] != intel.floats[0]) == (amd.products is not None)
