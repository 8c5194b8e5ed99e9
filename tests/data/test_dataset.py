"""Data: columns by name, batches that cover every row once, and randomness that leaves no trace."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import vbayes as vb
from vbayes import rng

DATA = vb.Dataset({"x": torch.arange(6.0), "y": torch.arange(6) * 10})


@settings(deadline=None)  # the first example pays for imports
@given(rows=st.integers(1, 40), size=st.integers(1, 40), shuffle=st.booleans())
def test_an_epoch_takes_every_row_once(rows, size, shuffle):
    data = vb.Dataset({"x": torch.arange(float(rows))})
    if size > rows:
        with pytest.raises(vb.errors.BadData, match=f"1 to {rows}"):
            data.epoch(size)
        return
    with vb.seeded(0):
        batches = list(data.minibatches(lambda x: None, size, shuffle=shuffle))
    taken = torch.cat([batch.args[0] for batch in batches])
    assert sorted(taken.tolist()) == list(range(rows))
    assert all(len(batch.args[0]) == size for batch in batches[:-1]) and len(batches[-1].args[0]) <= size
    assert all(batch.total == rows for batch in batches)


ASKED = {
    "by name": (lambda y: None, [DATA.tensors["y"]]),
    "in the model's order": (lambda y, x: None, [DATA.tensors["y"], DATA.tensors["x"]]),
    "with row numbers": (lambda x, rows: None, [DATA.tensors["x"], torch.arange(6)]),
    "with a default": (lambda x, beta=1.0: None, [DATA.tensors["x"]]),
    "by position": (lambda image: None, [DATA.tensors["x"]]),
    "all": (lambda *columns: None, list(DATA.tensors.values())),
}


@pytest.mark.parametrize("case", ASKED)
def test_columns(case):
    model, expected = ASKED[case]
    got = DATA.batch(model).args
    assert len(got) == len(expected) and all(torch.equal(a, b) for a, b in zip(got, expected, strict=True))
    some = DATA.batch(model, torch.tensor([4, 1])).args
    assert all(torch.equal(a, b[[4, 1]]) for a, b in zip(some, expected, strict=True))


def test_too_many_columns_asked_for():
    with pytest.raises(vb.errors.BadData, match="takes 3 arguments .a, b, c.; data set 'data' has 2 columns"):
        DATA.batch(lambda a, b, c: None)


def test_of_takes_what_there_is():
    assert vb.Dataset.of(DATA) is DATA
    assert len(vb.Dataset.of(np.zeros((4, 2)))) == 4
    assert list(vb.Dataset.of({"a": [1.0, 2.0]}).tensors) == ["a"]
    pair = vb.Dataset.of((torch.zeros(3), torch.ones(3)))
    assert [a.tolist() for a in pair.batch(lambda u, v: None).args] == [[0.0] * 3, [1.0] * 3]


def test_seeded_leaves_no_trace():
    import random

    def numbers():
        return torch.rand(1).item(), float(np.random.rand()), random.random()

    before = rng.get_state()
    with vb.seeded(1):
        first = numbers()
        with vb.seeded(2):
            other = numbers()
        second = numbers()
    with vb.seeded(1):
        assert (numbers(), numbers()) == (first, second)
    assert len({first, other, second}) == 3
    after = rng.get_state()
    assert torch.equal(before["torch"], after["torch"]) and before["random"] == after["random"]
    with pytest.raises(ZeroDivisionError), vb.seeded(3):
        numbers()
        raise ZeroDivisionError
    assert rng.get_state()["random"] == before["random"]
