"""Tables as other libraries have them: columns by name, whatever the rows are called."""

from __future__ import annotations

import re

import numpy as np
import pandas as pd
import pyro
import pyro.distributions as dist
import pytest
import torch
import xarray as xr
from pyro.infer.autoguide import AutoNormal

import vbayes as vb

RNG = np.random.default_rng(0)
X, COUNTY = RNG.normal(size=30), np.array(["Aitkin", "Anoka", "Becker"])[RNG.integers(3, size=30)]
Y = X + RNG.normal(size=30)
FRAME = pd.DataFrame(
    {"when": pd.date_range("2020", periods=30), "county": COUNTY, "y": Y, "x": X, "id": range(30)},
    index=RNG.permutation(30) // 2,
)


def model(x, county, y):
    with pyro.plate("counties", 3):
        a = pyro.sample("a", dist.Normal(0.0, 1.0))
    with pyro.plate("data", len(x)):
        pyro.sample("y", dist.Normal(a[county] + x, 1.0), obs=y)


def structured():
    made = np.empty(30, dtype=[("id", "i8"), ("x", "f8"), ("county", "U6"), ("y", "f4")])
    made["id"], made["x"], made["county"], made["y"] = range(30), X, COUNTY, Y
    return made


def polars():
    pl = pytest.importorskip("polars")
    return pl.DataFrame({"county": COUNTY.tolist(), "y": Y, "x": X, "when": FRAME.when.dt.date.tolist()})


def arrow():
    pa = pytest.importorskip("pyarrow")
    return pa.table({"county": COUNTY.tolist(), "y": Y, "x": X})


def xarray():
    return xr.Dataset({"y": ("obs", Y), "x": ("obs", X)}, coords={"county": ("obs", COUNTY), "obs": FRAME.index})


KINDS = {
    "pandas": lambda: FRAME,
    "pandas, with dtypes of its own": FRAME.convert_dtypes,
    "pandas, categorical": lambda: FRAME.assign(county=FRAME.county.astype("category")),
    "series": lambda: {"x": FRAME.x, "county": FRAME.county.reset_index(drop=True), "y": FRAME.y.set_axis(range(30, 0, -1))},
    "structured": structured,
    "polars": polars,
    "arrow": arrow,
    "xarray": xarray,
}  # fmt: skip


@pytest.mark.parametrize("kind", KINDS)
def test_columns_go_by_name(kind):
    data = vb.Dataset.of(KINDS[kind]())
    x, county, y = data.batch(model).args
    assert np.allclose(x, X) and np.allclose(y, Y) and (np.array(data.labels["county"])[county] == COUNTY).all()
    assert x.dtype == y.dtype == torch.float32 and county.dtype == torch.int64
    assert len(data.rows(slice(3, 7)).batch(model).args[0]) == 4


def test_fit_and_check_take_a_table_and_say_once_what_they_leave_out(capsys):
    pair = vb.Pair(model, AutoNormal(model))
    seen = vb.check(pair, FRAME)
    vb.fit(pair, FRAME, steps=3, batch_size=10, compile=False)
    said = re.sub(r"\s+", " ", "".join(capsys.readouterr()))
    assert said.count("Columns left out, as 'model' has no arguments with these names: id, when.") == 2
    assert [(site.name, site.shape) for site in seen.sites if site.in_guide == "observed"] == [("y", (30,))]
    assert vb.check(pair, dict(FRAME[["x", "county", "y"]].items()), show=False) == seen
    assert vb.check(pair, *vb.Dataset.of(FRAME).batch(model).args, show=False) == seen
    assert vb.check(pair, vb.Dataset.of(FRAME), show=False) == seen
    assert not capsys.readouterr().out


def test_several_columns_as_a_matrix():
    data = vb.Dataset.of({"X": FRAME[["x", "id"]], "y": FRAME["y"]})
    assert np.allclose(data.tensors["X"], np.stack([X, range(30)], 1)) and np.allclose(data.tensors["y"], Y)
    with pytest.raises(vb.errors.BadData, match="'county' of a table that is passed as one argument .* holds names"):
        vb.Dataset.of({"X": FRAME[["x", "county"]]})


NUMBERS = {
    "whole numbers": (pd.Series([1, 2, None], dtype="Int64"), [1.0, 2.0, None]),
    "true and false": (pd.Series([True, None, False], dtype="boolean"), [1.0, None, 0.0]),
    "without gaps": (pd.Series([True, False, False], dtype="boolean"), [True, False, False]),
    "whole numbers without gaps": (pd.Series([3, 2, 1], dtype="Int8"), [3, 2, 1]),
    "objects": (pd.Series([3, 2, 1], dtype=object), [3, 2, 1]),
    "real numbers": (pd.Series([0.5, None, 1], dtype="Float32"), [0.5, None, 1.0]),
    "nothing at all": (pd.Series([None, None, None], dtype=object), [None, None, None]),
}


@pytest.mark.parametrize("kind", NUMBERS)
def test_numbers_with_and_without_gaps(kind):
    series, wanted = NUMBERS[kind]
    made = vb.Dataset.of(pd.DataFrame({"x": series})).tensors["x"]
    assert [None if each != each else each for each in made.tolist()] == wanted
    assert made.is_floating_point() == (None in wanted or any(isinstance(each, float) for each in wanted))


BAD = {
    "times": (FRAME, lambda when: None, "'when' is a column of times.* pd.Timedelta"),
    "durations": (pd.DataFrame({"x": [1.0], "t": pd.to_timedelta([1], "h")}), lambda t: None, "'t' is a column of times.*total_seconds"),
    "a mixture": (pd.DataFrame({"x": [1.0, 2.0], "m": ["a", 2.5]}), lambda m: None, "'m' is a column of mixed values"),
    "no such column": (FRAME, lambda x, countty: None, "no column 'countty'. Did you mean 'county'"),
    "one name twice": (pd.DataFrame([[1.0, 2.0]], columns=["x", "x"]), model, "several are named 'x'"),
    "other rows": (xr.Dataset({"y": ("obs", Y), "z": ("other", [1.0])}), model, "'z' has dimensions .'other',., but the rows of the others are along 'obs'"),
    "no rows": (FRAME.iloc[:0], model, "is empty: 0 rows"),
    "no column that is one": (FRAME[["when"]], model, "'when' is a column of times"),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD)
def test_what_is_no_column(case):
    data, asks, said = BAD[case]
    with pytest.raises(vb.errors.BadData, match=f"(?s){said}"):
        vb.Dataset.of(data).batch(asks)


def test_whole_numbers_of_a_bernoulli():
    """As 0 and 1 stand in a file; Pyro wants real numbers there."""

    def coin(y):
        p = pyro.sample("p", dist.Beta(1.0, 1.0))
        with pyro.plate("data", len(y)):
            pyro.sample("y", dist.Bernoulli(p), obs=y)

    with pytest.raises(vb.errors.BadPair, match=r"pass x.float\(\)"):
        vb.check(vb.Pair(coin, AutoNormal(coin)), pd.DataFrame({"y": [0, 1]}))
