"""Columns of names: codes in the order that a categorical or the alphabet has, and the same codes again for other data."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import torch

import vbayes as vb

TABLE = pd.DataFrame(
    {"county": ["b", "a", "c"], "size": pd.Categorical(["s", "l", "s"], categories=["s", "l"])}, index=[7, 7, 2]
)


def test_codes_and_what_they_stand_for():
    data = vb.Dataset.of(TABLE)
    assert data.labels == {"county": ("a", "b", "c"), "size": ("s", "l")}
    assert data.tensors["county"].tolist() == [1, 0, 2] and data.tensors["size"].tolist() == [0, 1, 0]
    assert vb.Dataset.of({"county": np.array(["b", "a", "c"])}).labels == {"county": ("a", "b", "c")}


@pytest.mark.parametrize("same", ["rows", "to", "binarized", "in_epoch"])
def test_labels_stay(same):
    data = vb.Dataset({"x": torch.tensor([0.1, 0.9, 0.5]), **dict(TABLE.items())})
    made = {"rows": lambda: data.rows(slice(0, 2)), "to": lambda: data.to("cpu"), "binarized": lambda: data.binarized("dynamic"),
            "in_epoch": lambda: data.binarized("dynamic").in_epoch(2)}[same]()  # fmt: skip
    assert made.labels == data.labels == {"county": ("a", "b", "c"), "size": ("s", "l")}


@pytest.mark.parametrize("first", [lambda new: new, vb.Dataset.of], ids=["a table", "a data set with codes of its own"])
def test_other_data_have_the_same_codes_and_new_names_come_behind(first):
    data = vb.Dataset.of(TABLE)
    new = vb.Dataset.of(first(TABLE.iloc[:2].assign(county=["zz", "c"], size=["l", "xl"])), like=data)
    assert new.tensors["county"].tolist() == [3, 2] and new.tensors["size"].tolist() == [1, 2]
    assert new.labels == {"county": ("a", "b", "c", "zz"), "size": ("s", "l", "xl")}


def test_names_with_gaps():
    data = vb.Dataset.of(pd.DataFrame({"g": ["b", None, "a"]}))
    assert data.labels == {"g": ("a", "b")} and torch.equal(
        data.tensors["g"].nan_to_num(nan=-1), torch.tensor([1.0, -1, 0])
    )
    new = vb.Dataset.of(data, like=vb.Dataset.of({"g": ["c", "b"]}))
    assert new.labels["g"] == ("b", "c", "a") and torch.equal(
        new.tensors["g"].nan_to_num(nan=-1), torch.tensor([0.0, -1, 2])
    )


def test_whole_numbers_are_names_where_there_are_names():
    """A table that was read again has 10 where a categorical has "10"."""
    data = vb.Dataset.of({"g": pd.Series([30, 10]).astype("category")})
    assert vb.Dataset.of({"g": pd.Series([10, 20])}, like=data).tensors["g"].tolist() == [0, 2]
    assert vb.Dataset.of({"g": torch.tensor([1, 0])}, like=data).tensors["g"].tolist() == [1, 0]


@pytest.mark.parametrize(
    ("names", "numbers", "codes"),
    [
        (["30", "10", "x7"], pd.Series([10, 30]), [0, 1]),
        (["30", "10"], np.array([10, 99]), [0, 2]),
        (["01001", "01003"], [1003, 1001], [1, 0]),
        (["10", "30"], pd.Series([30.0, np.nan]), [1, None]),
        (["0.5", "1.5"], np.array([1.5]), [1]),
        (["False", "True"], pd.Series([True, False]), [1, 0]),
    ],
)
def test_numbers_that_are_names(names, numbers, codes):
    """In a mapping, in a table, and in a data set that was read from one."""
    data = vb.Dataset.of(pd.DataFrame({"g": names}))
    for new in (numbers, None):
        table = pd.DataFrame({"g": numbers})
        found = vb.Dataset.of(table if new is None else {"g": new}, like=data)
        again = vb.Dataset.of(vb.Dataset.of(table), like=data)
        for one in (found, again):
            assert [None if np.isnan(code) else code for code in one.tensors["g"].tolist()] == codes
            assert one.labels["g"][: len(names)] == data.labels["g"]


@pytest.mark.parametrize("new", [np.array([0, 1]), [0, 1], pd.Series([0, 1]), np.array([0.0, 1.0])])
def test_numbers_that_are_no_names_are_refused(new):
    """Codes are handed in as a tensor, which can't hold anything else."""
    data = vb.Dataset.of({"g": ["b", "a"]})
    said = "column 'g' is numbers, where .* have names, such as 'a'.*torch.tensor\\(g\\)"
    with pytest.raises(vb.errors.BadData, match=said):
        vb.Dataset.of({"g": new}, like=data)
    with pytest.raises(vb.errors.BadData, match=said):
        vb.Dataset.of(vb.Dataset.of(pd.DataFrame({"g": new})), like=data)
    assert vb.Dataset.of({"g": torch.tensor([1, 0])}, like=data).tensors["g"].tolist() == [1, 0]
    assert vb.Dataset({"g": np.array([1, 0])}, labels={"g": ("a", "b")}).tensors["g"].tolist() == [1, 0]
