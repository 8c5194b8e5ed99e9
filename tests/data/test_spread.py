"""Rows that stand for all."""

from __future__ import annotations

import pytest

from vbayes.data.spread import spread


@pytest.mark.parametrize("rows", [1, 2, 999, 1000, 1001, 2**24 + 4, 10**9 + 1])
def test_from_the_first_to_the_last_and_no_further(rows):
    """In single precision the last of 2²⁴ + 4 rows was one too far."""
    chosen = spread(rows, 1000, "cpu")
    assert len(chosen) == len(set(chosen.tolist())) == min(rows, 1000)
    assert chosen[0] == 0 and rows - 64 < chosen[-1] < rows and (chosen.diff() > 0).all()
    if rows <= 1000:
        assert chosen.tolist() == list(range(rows))
