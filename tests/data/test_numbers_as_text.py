"""Columns of text that are numbers: an error where a model asks for them, and names of groups where they may be."""

from __future__ import annotations

import pandas as pd
import pytest

import vbayes as vb


def model(hours, score=None):
    """Its data are looked at, and it is never called."""


@pytest.mark.parametrize(
    ("values", "said"),
    [
        (["0.5", "1.5", "2.5", "?"], r"3 of its 4 values are numbers; '\?' in row 3 is not.*to_numeric\(df\['hours'\], errors='coerce'\)"),
        (["34", "27", "-", "51"], "3 of its 4 values are numbers; '-' in row 2 is not"),
        (["0,75", "0,25", "1,5"], r"all of its values are numbers with a comma.*\.str\.replace\(',', '\.'\)"),
        (["5%", "7.5 %", "12%"], r"all of its values are numbers\..*str\.strip"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("column", ["hours", "score"])
def test_numbers_read_as_text_are_refused(values, said, column):
    """Also for an argument with a default, which would be left out otherwise."""
    table = pd.DataFrame({"hours": 1.0, column: values})
    with pytest.raises(vb.errors.BadData, match=said.replace("hours", column)):
        vb.Dataset.of(table).asked(model)
    named = vb.Dataset.of(table.astype({column: "category"}))  # whose user has said that they are names
    assert column in named.asked(model) and named.labels[column] == tuple(sorted(values))


def test_a_column_that_no_model_asks_for_is_in_nobodys_way():
    table = pd.DataFrame({"hours": [1.0, 2.0, 3.0], "size": ["0.5", "1.5", "2.5"]})
    assert vb.Dataset.of(table).asked(model) == ["hours"]


@pytest.mark.parametrize("names", [["1", "2", "3"], ["10", "11", "12a"], ["a", "b", "1.5"], ["0.5", "1.5"], ["01001", "01003", "x"]])  # fmt: skip
def test_names_stay_names(names):
    assert vb.Dataset.of(pd.DataFrame({"hours": names})).labels == {"hours": tuple(sorted(names))}
