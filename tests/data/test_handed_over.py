"""What would arrive as something else is an error: columns by place, names by code, rows by number."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro.infer.autoguide import AutoNormal

import vbayes as vb
from vbayes.pair.missing import without_gaps


def line(x, offset=None, y=None):
    b = pyro.sample("b", dist.Normal(0.0, 10.0))
    with pyro.plate("data", len(x)):
        pyro.sample("obs", dist.Normal(b * x + (0.0 if offset is None else offset), 1.0), obs=y)


def by_group(g, y):
    with pyro.plate("groups", 3):
        a = pyro.sample("a", dist.Normal(0.0, 10.0))
    with pyro.plate("data", len(y)):
        pyro.sample("obs", dist.Normal(a[g], 1.0), obs=y)


FRAME = pd.DataFrame({"g": ["a", "b", "c"] * 20, "y": [1.0, 5.0, 9.0] * 20})


def test_a_column_behind_an_argument_that_is_left_out():
    data = {"x": torch.arange(5.0), "y": torch.arange(5.0)}
    with pytest.raises(vb.errors.BadData, match=r"'offset' comes before 'y'.*Fix: def model\(x, y, offset=None\)"):
        vb.fit(line, data, steps=1, progress=False)
    assert len(vb.Dataset.of(data | {"offset": torch.zeros(5)}).batch(line).args) == 3

    def alone(x, *, y=None): ...

    with pytest.raises(vb.errors.BadData, match=r"takes 'y' only by keyword"):
        vb.Dataset.of(data).batch(alone)


def test_a_column_called_rows_is_that_column():
    def model(rows, y): ...

    data = vb.Dataset.of({"rows": torch.tensor([5.0, 7.0]), "y": torch.zeros(2)})
    assert data.batch(model).args[0].tolist() == [5.0, 7.0]
    assert vb.Dataset.of({"y": torch.zeros(2)}).batch(model).args[0].tolist() == [0, 1]


@pytest.fixture(scope="module")
def fit():
    return vb.fit(
        vb.Pair(by_group, AutoNormal(by_group)), FRAME, steps=300, learning_rate=0.1, compile=False, progress=False
    )


def test_names_of_a_part_have_the_codes_of_the_fit(fit):
    part = FRAME[FRAME.g != "a"]
    same = vb.Dataset.of({"g": torch.tensor([1, 2] * 20), "y": torch.tensor([5.0, 9.0] * 20)})
    values = [
        vb.log_evidence(fit, each, "elbo", num_particles=10, seed=0, progress=False).value for each in (part, same)
    ]
    assert values[0] == pytest.approx(values[1], rel=1e-6) and values[0] > -200


def test_names_where_the_fit_had_numbers(fit):
    numbers = FRAME.assign(g=FRAME.g.map({"a": 0, "b": 1, "c": 2}))
    other = vb.fit(vb.Pair(by_group, AutoNormal(by_group)), numbers, steps=1, compile=False, progress=False)
    with pytest.raises(
        vb.errors.BadData,
        match="Column 'g' has names, such as 'a', where the data of the fit have numbers",
    ):
        vb.log_evidence(other, FRAME, "elbo", progress=False)


def test_predictions_of_columns_without_names():
    def slope(x, y=None):
        b = pyro.sample("b", dist.Normal(0.0, 10.0))
        with pyro.plate("data", len(x)):
            pyro.sample("obs", dist.Normal(b * x, 1.0), obs=y)

    x = torch.arange(5.0)
    fit = vb.fit(vb.Pair(slope, AutoNormal(slope)), (x, 3 * x), steps=5, compile=False, progress=False)
    with pytest.raises(
        vb.errors.BadData,
        match="columns have no names .they were passed to the model by position., and the new ones are called 'y', 'x'",
    ):
        fit.predict(pd.DataFrame({"y": [0.0], "x": [1.0]}), draws=5, method="guide")
    assert fit.predict((x[:2],), draws=5, method="guide").draws["obs"].shape[-1] == 2
    named = vb.fit(vb.Pair(slope, AutoNormal(slope)), {"x": x, "y": 3 * x}, steps=5, compile=False, progress=False)
    with pytest.raises(vb.errors.BadData, match="NaN.*Leave out a column that is to be predicted"):
        named.predict({"x": torch.zeros(2), "y": torch.tensor([1.0, float("nan")])}, draws=5, method="guide")


def test_changes_of_a_copy_on_write_map_are_not_lost(tmp_path, monkeypatch):
    from vbayes.data import stored

    monkeypatch.setattr(stored, "WHOLE", 100)
    np.save(tmp_path / "y.npy", np.zeros(10_000))
    y = np.load(tmp_path / "y.npy", mmap_mode="c")
    y += 5
    column = vb.Dataset.of({"y": y}).tensors["y"]
    assert column[:].mean() == 5.0 and y.mean() == 5.0


def test_masked_is_masked_once_and_keeps_a_guides_settings():
    table = {"g": torch.tensor([0, 1, 2]), "y": torch.tensor([1.0, float("nan"), 9.0])}
    pair = vb.Pair(by_group, vb.guides.LowRank(by_group, rank=2))
    masked = pair.masked()
    assert without_gaps(masked.model) is masked.model
    fit = vb.fit(pair, table, steps=3, missing="mask", compile=False, progress=False)
    assert any(value.shape[-1:] == (2,) for value in fit.parameters.values())
    again = vb.fit(fit, table, steps=1, learning_rate=1e-9, missing="mask", compile=False, progress=False)
    assert all(torch.allclose(value, again.parameters[name], atol=1e-6) for name, value in fit.parameters.items())
    assert np.isnan(vb.to_arviz(fit, draws=5)["observed_data"]["obs"].values).tolist() == [False, True, False]


def test_a_report_of_many_rows_with_latents_of_their_own(tmp_path):
    def own(y):
        with pyro.plate("data", len(y)):
            z = pyro.sample("z", dist.Normal(0.0, 1.0))
            pyro.sample("obs", dist.Normal(z, 1.0), obs=y)

    fit = vb.fit(vb.Pair(own, AutoNormal(own)), torch.zeros(150), steps=3, compile=False, progress=False)
    assert fit.report(tmp_path / "report", draws=5).exists() and (tmp_path / "report" / "posterior.nc").exists()


def test_a_fit_that_is_read_again_has_its_own_codes(fit, tmp_path):
    """Names of a part of the data, or in another order, are those that the parameters were learnt of."""
    path, pair = fit.save(tmp_path / "fit.safetensors"), vb.Pair(by_group, AutoNormal(by_group))
    part = pd.DataFrame({"g": ["c", "b"], "y": [9.0, 5.0]})
    with pytest.warns(UserWarning, match="2 rows, and it had 60"):
        found = vb.Fit.load(path, pair, part)
    assert found.data.tensors["g"].tolist() == [2, 1] and found.data.labels["g"] == ("a", "b", "c")
    own = FRAME.assign(g=pd.Categorical(FRAME.g, ["c", "b", "a"]))
    assert vb.Fit.load(path, pair, own).data.tensors["g"][:3].tolist() == [0, 1, 2]
    with pytest.raises(vb.errors.BadData, match="'g' .*names that the fit .* was not trained on: d\\."):
        vb.Fit.load(path, pair, part.assign(g=["d", "c"]))


def test_gaps_in_a_column_of_names_are_counted():
    gaps = FRAME.assign(g=FRAME.g.where(FRAME.index % 20 > 0))
    said = "Column 'g' of 'data' has no name in 3 of 60 rows \\(first: row 0\\).*dropna\\(subset=\\['g'\\]\\)"
    pair = vb.Pair(by_group, AutoNormal(by_group))
    for how in ({}, {"missing": "mask"}, {"batch_size": 10}):
        with pytest.raises(vb.errors.BadData, match=said):
            vb.fit(pair, gaps, steps=1, progress=False, **how)
    with pytest.raises(vb.errors.BadData, match=said):
        vb.check(pair, gaps, show=False)


def test_what_was_meant_is_said():
    """A path in place of data, and a function that makes a pair in place of the pair."""
    pair = vb.Pair(by_group, AutoNormal(by_group))
    for verb in (vb.fit, vb.check, vb.posterior):
        with pytest.raises(vb.errors.BadData, match="vb.data.read\\('radon.csv'\\)"):
            verb(pair, "radon.csv")
    with pytest.raises(vb.errors.BadData, match="vb.data.digits\\(\\)"):
        vb.fit(pair, "digits")

    def mine(features: int) -> vb.Pair: ...

    for makes, call in ((vb.pairs.vae, "vb.pairs.vae\\(features=...\\)"), (mine, "mine\\(features=...\\)")):
        for verb in (vb.fit, vb.posterior, vb.Pair):
            with pytest.raises(vb.errors.BadInput, match=f"call it, {call}"):
                verb(*((makes, FRAME) if verb is not vb.Pair else (makes,)))
