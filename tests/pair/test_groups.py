"""What is said of the names of groups: once, before training, and with what to type."""

from __future__ import annotations

import warnings

import pandas as pd
import pyro
import pyro.distributions as dist
import pytest
import torch

import vbayes as vb

NAMES = [f"r{i:02d}" for i in range(6)]


def grouped(size):
    def model(region, y=None):
        with pyro.plate("regions", size):
            a = pyro.sample("a", dist.Normal(0.0, 1.0))
        with pyro.plate("data", len(region)):
            pyro.sample("y", dist.Normal(a[region], 1.0), obs=y)

    return model


def table(*names):
    return pd.DataFrame({"region": [*NAMES, *NAMES, *names], "y": 0.5})


def fit(size=6, data=None):
    return vb.fit(grouped(size), table() if data is None else data, steps=1, progress=False)


def said(call):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        call()
    return [str(each.message) for each in caught if each.category is UserWarning]


@pytest.mark.parametrize("size", [6, 10])
def test_a_plate_larger_than_its_names(size):
    """Whose labels would be lost without a word."""
    for call in (lambda: fit(size), lambda: vb.check(grouped(size), table(), show=False)):
        found = said(call)
        assert len(found) == (size > 6)
        if found:
            assert "Plate 'regions' of pair 'model' has 10 rows, but column 'region', which indexes it, has 6 names" in found[0]  # fmt: skip
            assert "Fix: pyro.plate('regions', 6)" in found[0]


def test_effects_of_all_but_a_reference_group():
    def model(region, y=None):
        with pyro.plate("region", 5):
            a = pyro.sample("a", dist.Normal(0.0, 1.0))
        full = torch.cat([torch.zeros_like(a[..., :1]), a], -1)
        with pyro.plate("data", len(region)):
            pyro.sample("y", dist.Normal(full[..., region], 1.0), obs=y)

    assert not said(lambda: vb.fit(model, table(), steps=1, progress=False))


def test_all_names_of_a_larger_plate_are_its_labels():
    data = table()
    data["region"] = pd.Categorical(data["region"], [*NAMES, "r06", "r07", "r08", "r09"])
    assert not said(lambda: fit(10, data))


@pytest.mark.parametrize(
    ("new", "known"),
    [("r00 ", "r00"), ("R01", "r01"), (" r02", "r02"), ("r07", None), ("r0", None)],
)
def test_a_new_name_that_looks_like_a_known_one(new, known):
    """It is a new group all the same."""
    trained = fit()
    rows = pd.DataFrame({"region": [new, "r05"]})
    found = said(lambda: vb.predict(trained, rows, draws=2))
    assert len(found) == (known is not None)
    if known:
        assert f"Column 'region' of 'data' has {new!r}" in found[0] and f"Did you mean {known!r}?" in found[0]
        assert f"table['region'].replace({{{new!r}: {known!r}}})" in found[0]
    assert vb.predict(trained, pd.DataFrame({"region": ["r05"]}), draws=2).new_groups == {}


def test_a_saved_fit_says_it_too(tmp_path):
    path = fit().save(tmp_path / "fit.safetensors")
    with pytest.raises(vb.errors.BadData, match="not trained on: r01 \\. Did you mean 'r01' for 'r01 '"):
        vb.Fit.load(path, vb.Pair(grouped(6)), table("r01 "))


def test_other_verbs_than_predict_say_it_too():
    with pytest.warns(UserWarning, match="Plate 'regions'"):
        trained = fit(size=7)
    with pytest.warns(UserWarning, match="Did you mean 'r00'"):
        vb.log_evidence(trained, pd.DataFrame({"region": ["r00 "], "y": [0.0]}), num_particles=2, progress=False)


def test_two_names_of_one_column_that_look_alike():
    found = said(lambda: fit(7, table("r03 ")))
    assert len(found) == 1 and "has the names 'r03' and 'r03 '" in found[0]
    assert "table['region'].replace({'r03 ': 'r03'})" in found[0]
    assert not said(lambda: fit(8, table("12", "012")))  # numbers may well be codes of two things
    assert not said(lambda: fit(6, table().assign(comment=["Yes", "yes"] * 6)))  # a column that the model does not take
