"""The C header that every program includes, against SciPy."""

from __future__ import annotations

import ctypes
import functools

import numpy as np
import pytest
from scipy import special

from vbayes.staging.native.build import build

CALLS = """
#include <math.h>
#include "runtime.h"
double call_digamma(double x) { return digamma(x); }
double call_trigamma(double x) { return trigamma(x); }
double call_erfinv(double x) { return erfinv(x); }
float call_digammaf(float x) { return digammaf(x); }
float call_trigammaf(float x) { return trigammaf(x); }
float call_erfinvf(float x) { return erfinvf(x); }
long call_place(long i, long n) { return place(i, n); }
int call_out_of_range(void) { const int was = out_of_range; out_of_range = 0; return was; }
"""
REALS = np.concatenate([np.linspace(-9.7, 20, 331), *(s * np.logspace(-12, 12, 49) for s in (1, -1.03))])
INSIDE = np.concatenate([np.linspace(-1, 1, 201)[1:-1], 1 - np.logspace(-15.9, -1, 40), np.logspace(-300, -1, 40)])
INF, NAN = np.inf, np.nan
FUNCTIONS = {  # SciPy's, a grid, edges, and what it is there
    "digamma": (special.digamma, REALS[REALS > -20], [0.0, -0.0, -1.0, -7.0, INF, NAN], [-INF, INF, NAN, NAN, INF, NAN]),
    "trigamma": (lambda x: special.polygamma(1, x), REALS[REALS > -20], [0.0, -0.0, -3.0, INF, NAN], [INF, INF, INF, 0.0, NAN]),
    "erfinv": (special.erfinv, INSIDE, [1.0, -1.0, 0.0, 1.5, -INF, NAN], [INF, -INF, 0.0, NAN, NAN, NAN]),
}  # fmt: skip


@functools.cache
def library() -> ctypes.CDLL:
    return build(CALLS)


def called(name, kind, x):
    function = getattr(library(), name)
    function.restype, function.argtypes = kind, [kind]
    return np.array([function(float(each)) for each in x])


@pytest.mark.parametrize("name", FUNCTIONS)
def test_functions(name):
    right, grid, edges, at_edges = FUNCTIONS[name]
    grid = grid[np.isfinite(right(grid))]
    double, single = called(f"call_{name}", ctypes.c_double, grid), called(f"call_{name}f", ctypes.c_float, grid)
    np.testing.assert_allclose(double, right(grid), rtol=1e-11, atol=1e-14)
    whole = np.float32(grid)
    inside = np.isfinite(np.float32(right(np.float64(whole))))
    np.testing.assert_allclose(single[inside], right(np.float64(whole))[inside], rtol=1e-6, atol=1e-7)
    for kind in (ctypes.c_double, ctypes.c_float):
        at = called(f"call_{name}" + ("f" if kind is ctypes.c_float else ""), kind, edges)
        np.testing.assert_array_equal(at, at_edges)


def test_indices():
    place, out_of_range = library().call_place, library().call_out_of_range
    place.restype, place.argtypes = ctypes.c_long, [ctypes.c_long, ctypes.c_long]
    assert [place(i, 5) for i in (0, 4, -1, -5)] == [0, 4, 4, 0] and not out_of_range()
    for beyond in (5, -6, 2**62, -(2**62)):
        assert place(beyond, 5) == 0 and out_of_range() and not out_of_range()
    assert place(0, 0) == 0 and out_of_range()
