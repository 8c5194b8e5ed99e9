"""Names of dimensions and the labels along them; predictions and constants, in groups of their own."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro.infer.autoguide import AutoNormal

import vbayes as vb
from vbayes.export import arviz as export
from vbayes.export.labels import labels_of

COUNTIES = ("Aitkin", "Anoka", "Becker")
FRAME = pd.DataFrame(
    {
        "county": [COUNTIES[i] for i in (0, 1, 2, 1, 0)],
        "floor": [0.0, 1.0, 0.0, 0.0, 1.0],
        "y": [1.0, 0.2, 2.0, 1.5, 0.4],
    }
)


def model(county, floor, y=None):
    beta = pyro.sample("beta", dist.Normal(torch.zeros(2), 1.0).to_event(1))
    with pyro.plate("county", 3):
        a = pyro.sample("a", dist.Normal(0.0, 1.0))
        pyro.deterministic("twice", 2 * a)
        pyro.deterministic("powers", torch.stack([a, a**2], -1))
    with pyro.plate("data", len(floor)):
        mu = pyro.deterministic("mu", a[county] + beta[0] * floor)
        pyro.sample("y", dist.Normal(mu, 1.0), obs=y)


def guide(county, floor, y=None):
    pyro.sample("beta", dist.Normal(pyro.param("beta_loc", torch.zeros(2)), 1.0).to_event(1))
    with pyro.plate("county", 3):
        pyro.sample("a", dist.Normal(pyro.param("a_loc", torch.zeros(3)), 1.0))


@pytest.fixture(scope="module")
def fit() -> vb.Fit:
    return vb.fit(vb.Pair(model, guide), FRAME, steps=1, compile=False, progress=False)


def test_labels_come_from_the_data_frame(fit):
    data = fit.to_arviz(draws=30)
    posterior = data["posterior"]
    assert posterior["a"].dims == ("chain", "draw", "county") == posterior["twice"].dims
    assert posterior["powers"].dims == ("chain", "draw", "county", "powers_dim_1")
    assert posterior["mu"].dims == ("chain", "draw", "data")
    assert tuple(posterior["a"].coords["county"].values) == COUNTIES
    assert "a[Aitkin]" in export.arviz().summary(data, kind="stats").index
    constant = data["constant_data"]
    assert set(constant.data_vars) == {"county", "floor"} and constant["floor"].dims == ("data",)
    assert constant["county"].values.tolist() == [0, 1, 2, 1, 0]


def test_predictions_are_groups_of_their_own(fit, tmp_path):
    new = pd.DataFrame({"county": ["Becker", "Dakota"], "floor": [1.0, 0.0]})
    found = fit.predict(new, draws=20, method="guide")
    data = fit.to_arviz(draws=30, predictions=found)
    assert data["predictions"]["y"].dims == ("chain", "draw", "data") and data["predictions"]["y"].shape == (1, 20, 2)
    assert "predictions" not in data["posterior"] and data["posterior"]["mu"].shape == (1, 30, 5)
    assert data["predictions_constant_data"]["floor"].values.tolist() == [1.0, 0.0]
    assert list(data["predictions"].coords["county"].values) == ["Becker", "Dakota"]
    back = export.from_netcdf(export.to_netcdf(data, tmp_path / "draws.nc"))
    np.testing.assert_array_equal(back["predictions"]["y"], data["predictions"]["y"])
    assert back["predictions"].attrs["new_county"] == "Dakota" or list(back["predictions"].attrs["new_county"]) == [
        "Dakota"
    ]
    with pytest.raises(vb.errors.BadInput, match="predictions is .*Wanted: a vb.Prediction"):
        fit.to_arviz(draws=3, predictions=data)


def test_coords_and_dims_by_hand(fit):
    data = fit.to_arviz(
        draws=4,
        coords={"county": ["one", "two", "three"], "coefficient": ["slope", "other"], "row": list("vwxyz")},
        dims={"beta": ["coefficient"], "powers": ["power"], "mu": ["row"]},
    )
    posterior = data["posterior"]
    assert posterior["beta"].dims[2:] == ("coefficient",) and posterior["powers"].dims[2:] == ("county", "power")
    assert posterior["mu"].dims[2:] == ("row",) and list(posterior.coords["row"].values) == list("vwxyz")
    assert list(posterior.coords["county"].values) == ["one", "two", "three"]
    assert list(posterior.coords["coefficient"].values) == ["slope", "other"]
    for wrong, said in (
        ({"coords": {"country": ["a"]}}, "coords names 'country', which is not a dimension"),
        ({"coords": {"county": ["a"]}}, "'county' is 3 long"),
        ({"dims": {"alpha": ["b"]}}, "dims names 'alpha', which is not a variable"),
        ({"dims": {"powers": ["a", "b", "c"]}}, "dims\\['powers'\\] is .*Wanted: 2 names"),
    ):
        with pytest.raises(vb.errors.BadInput, match=said):
            fit.to_arviz(draws=2, **wrong)


def test_the_rule_of_labels():
    data = vb.Dataset.of(pd.DataFrame({"g": list("abca"), "h": list("xyzx"), "name": list("pqrs"), "y": np.zeros(4)}))

    def found(sizes, rows=frozenset(), asked=("g", "h", "y"), **picked):
        return labels_of(sizes, rows, data, asked, picked)

    assert found({"g": 3, "other": 3}) == {"g": ["a", "b", "c"]}, "by name, and nothing for what nothing is said of"
    assert found({"plate": 4}) == {}, "a size says nothing"
    assert found({"one": 3, "two": 3}, one={"h"}, two={"g"}) == {"one": ["x", "y", "z"], "two": ["a", "b", "c"]}
    assert found({"h": 3}, h={"g"}) == {"h": ["a", "b", "c"]}, "what picks from it counts more than its name"
    assert found({"h": 3}, h={"y"}) == {}, "by numbers without names"
    assert found({"plate": 3}, plate={"g", "h"}) == {}, "two columns of other names"
    assert found({"data": 4}, {"data"}) == {"data": ["p", "q", "r", "s"]}, "of the rows"
    assert found({"data": 4}, {"data"}, asked=("name", "y")) == {}, (
        "a column that the model asks for says no names of rows"
    )
    assert found({"name": 4}, {"name"}, asked=("name", "y")) == {"name": ["p", "q", "r", "s"]}
    assert found({"h": 5}) == {}, "of another size"


def test_plates_of_one_size_have_each_their_own_names():
    """Whatever they are called; and one whose rows are picked by no column has none, though there are as many names."""

    def model(county, kind, y):
        with pyro.plate("first", 3):
            a = pyro.sample("a", dist.Normal(0.0, 1.0))
        with pyro.plate("second", 3):
            b = pyro.sample("b", dist.Normal(0.0, 1.0))
        with pyro.plate("rows", 3):
            z = pyro.sample("z", dist.Normal(0.0, 1.0))
        with pyro.plate("data", 3):
            pyro.sample("y", dist.Normal(a[kind] + b[county] + z, 1.0), obs=y)

    table = pd.DataFrame({"county": list("cab"), "kind": list("xzy"), "y": np.zeros(3)})
    fit = vb.fit(vb.Pair(model, AutoNormal(model)), table, steps=1, compile=False, progress=False)
    found = fit.to_arviz(draws=2, prior=False)["posterior"].coords
    assert [list(found[plate].values) for plate in ("first", "second", "rows")] == [list("xyz"), list("abc"), [0, 1, 2]]


def test_eight_schools_by_name():
    schools = pd.DataFrame({"school": list("HGFEDCBA"), "y": np.arange(8.0), "sigma": np.ones(8)})
    fit = vb.fit(vb.pairs.eight_schools(), schools, steps=1, compile=False, progress=False)
    data = fit.to_arviz(draws=4, prior=False)
    assert list(data["posterior"]["theta_tilde"].coords["data"].values) == list("HGFEDCBA")
    assert set(data["constant_data"].data_vars) == {"sigma"}


def test_draws_of_a_posterior_carry_them_too(fit):
    data = fit.posterior(draws=5, method="guide").to_arviz()["posterior"]
    assert data["a"].dims == ("chain", "draw", "county") and tuple(data["a"].coords["county"].values) == COUNTIES
