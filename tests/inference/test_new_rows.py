"""The rows of a table that is to be predicted: which columns are needed, and whether its rows keep their names."""

from __future__ import annotations

import pandas as pd
import pyro
import pyro.distributions as dist
import pytest
import torch

import vbayes as vb
from tests.inference.trained import trained

X = torch.linspace(-1.0, 1.0, 4)
DATA = {"x": X, "z": X + 2, "y": 2 * X}


def model(x, z, y=None):
    w = pyro.sample("w", dist.Normal(0.0, 1.0))
    with pyro.plate("data", len(x)):
        pyro.sample("y", dist.Normal(w * x + z, 0.5), obs=y)


def guide(x, z, y=None):
    pyro.sample("w", dist.Normal(2.0, 0.1))


def test_what_is_missing_and_not_needed_is_not_asked_for():
    with pytest.raises(vb.errors.BadData, match="lacks 'z', and"):  # and 'y', which is to be predicted
        vb.predict(trained(model, guide, DATA), {"x": X})


def both(x, z, y=None):
    w = pyro.sample("w", dist.Normal(0.0, 1.0))
    with pyro.plate("data", len(x)):
        pyro.sample("y", dist.Normal(w * x + z, 0.5), obs=y)
        pyro.deterministic("powers", torch.stack([w * x, (w * x) ** 2], -1), event_dim=1)


@pytest.mark.parametrize("index", [[9, 5, 5], ["b", "a", "c"], pd.MultiIndex.from_tuples([("u", 2), ("u", 1), ("v", 2)])], ids=["numbers, one of them twice", "names", "several levels"])  # fmt: skip
def test_rows_keep_their_index(index):
    new = pd.DataFrame({"x": [0.0, 1.0, 2.0], "z": [3.0, 4.0, 5.0]}, index=index)
    found = vb.predict(trained(both, guide, DATA), new, draws=5)
    table = found.to_dataframe()
    assert table.index.equals(new.index) and table.x.tolist() == new.x.tolist() and table.data.tolist() == [0, 1, 2]
    powers = found.to_dataframe("powers")
    assert powers.index.equals(new.index.repeat(2)) and powers.data.tolist() == [0, 0, 1, 1, 2, 2]


def test_rows_without_an_index_are_counted():
    fit = trained(both, guide, DATA)
    for new in (pd.DataFrame({"x": [0.0, 1.0], "z": [3.0, 4.0]}), {"x": X, "z": X}, None):
        found = vb.predict(fit, new, draws=5)
        assert found.index is None and found.to_dataframe("powers").index.equals(pd.RangeIndex(2 * found.rows))
