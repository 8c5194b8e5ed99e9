"""Predictions for other rows, against closed forms and Pyro's own."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pyro
import pyro.distributions as dist
import pytest
import scipy.stats
import torch
from pyro.infer.autoguide import AutoDelta, AutoNormal

import vbayes as vb
from tests.inference.trained import DRAWS, right, trained
from tests.models import binary, small_vae

# ---- a conjugate regression: y ~ N(x·w, ½), w ~ N(0, 1) ------------------------------------------------------------

X = torch.tensor([[1.0, 0.0], [1.0, 1.0], [1.0, 2.0], [1.0, 3.0]])
Y = torch.tensor([0.5, 1.0, 2.5, 2.0])
NEW = torch.tensor([[1.0, -1.0], [1.0, 5.0], [0.0, 1.0]])
COVARIANCE = torch.linalg.inv(torch.eye(2) + 4 * X.T @ X)
MEAN = COVARIANCE @ (4 * X.T @ Y)


def weights(x, y=None):
    pyro.sample("w", dist.MultivariateNormal(MEAN, COVARIANCE))


def plain(x, y=None):
    w = pyro.sample("w", dist.Normal(0.0, 1.0).expand([2]).to_event(1))
    with pyro.plate("data", len(x)):
        mu = pyro.deterministic("mu", x @ w)
        pyro.sample("y", dist.Normal(mu, 0.5), obs=y)


def required(x, y):
    plain(x, y)


def sized_by_y(x, y):
    w = pyro.sample("w", dist.Normal(0.0, 1.0).expand([2]).to_event(1))
    with pyro.plate("data", len(y)):
        mu = pyro.deterministic("mu", x @ w)
        pyro.sample("y", dist.Normal(mu, 0.5), obs=y)


def branches(x, y=None):
    plain(x, None if y is None else y + 0)


def observed_elsewhere(x):
    pyro.condition(plain, data={"y": Y})(x)


def through_a_map(x, y):
    w = pyro.sample("w", dist.Normal(0.0, 1.0).expand([2]).to_event(1))
    with pyro.plate("rows", y.shape[0]):
        mu = pyro.deterministic("mu", x @ w)
        pyro.sample("y", dist.Normal(mu, 0.5), obs=2 * (y / 2))


@pytest.mark.parametrize("model", [plain, required, sized_by_y, branches, observed_elsewhere, through_a_map])
def test_new_rows_of_a_regression_however_it_is_called(model):
    data = {"x": X} if model is observed_elsewhere else {"x": X, "y": Y}
    found = vb.predict(trained(model, weights, data), {"x": NEW}, draws=DRAWS)
    variance = ((NEW @ COVARIANCE) * NEW).sum(1).numpy()
    mean = (NEW @ MEAN).numpy()
    right(found["mu"], mean, variance**0.5)
    right(found["y"], mean, (variance + 0.25) ** 0.5)
    assert found["y"].dims == ("draw", "rows" if model is through_a_map else "data") and found.sites == ("y",)
    assert abs(np.corrcoef(found["y"][:, 0], found["y"][:, 1])[0, 1]) > 0.1, "rows share their w"


def test_what_is_given_beside_does_not_change_a_prediction():
    """Nor do the columns' order, a bare tensor, or what is to be predicted."""
    fit = trained(plain, weights, {"x": X, "y": Y})
    first = vb.predict(fit, {"x": NEW}, draws=50)
    for new in (NEW, {"y": torch.zeros(3), "x": NEW}, vb.Dataset({"other": torch.zeros(3), "x": NEW})):
        np.testing.assert_array_equal(vb.predict(fit, new, draws=50)["y"], first["y"])
    assert not np.array_equal(vb.predict(fit, {"x": NEW}, draws=50, seed=1)["y"], first["y"])


def test_its_own_rows():
    found = vb.predict(trained(plain, weights, {"x": X, "y": Y}), draws=DRAWS)
    right(found["y"], (X @ MEAN).numpy(), (((X @ COVARIANCE) * X).sum(1) + 0.25).sqrt().numpy())
    assert set(found.constant.data_vars) == {"x"}


def test_the_same_as_pyros_predictive():
    def model(x, y=None):
        a, b = (pyro.sample(n, dist.Normal(0.0, 1.0)) for n in "ab")
        scale = pyro.sample("scale", dist.LogNormal(0.0, 0.5))
        with pyro.plate("data", len(x)):
            pyro.sample("y", dist.Normal(a + b * x, scale), obs=y)

    fit = vb.fit(
        vb.Pair(model, AutoNormal(model)),
        {"x": X[:, 1], "y": Y},
        steps=30,
        learning_rate=0.05,
        compile=False,
        progress=False,
    )
    new = torch.tensor([-1.0, 4.0])
    ours = vb.predict(fit, {"x": new}, draws=DRAWS)["y"].to_numpy()
    with fit.pair.scope(), vb.seeded(3):
        theirs = pyro.infer.Predictive(model, guide=fit.pair.guide, num_samples=DRAWS, parallel=True)(new)["y"].numpy()
    pyro.clear_param_store()
    se = (ours.var(0) / DRAWS + theirs.var(0) / DRAWS) ** 0.5
    assert (abs(ours.mean(0) - theirs.mean(0)) < 5 * se).all()
    for q in (0.05, 0.5, 0.95):  # the share of theirs below our quantile
        share = (theirs < np.quantile(ours, q, axis=0)).mean(0)
        assert (abs(share - q) < 5 * (2 * q * (1 - q) / DRAWS) ** 0.5).all()


def test_draws_weighted_where_the_diagnosis_says_so():
    def model(x, y=None):
        m = pyro.sample("m", dist.Normal(0.0, 1.0))
        with pyro.plate("data", len(x)):
            pyro.sample("y", dist.Normal(m + 0 * x, 0.1), obs=y)

    def guide(x, y=None):  # twice as wide as the posterior
        pyro.sample("m", dist.Normal(pyro.param("loc", torch.tensor(1.98)), 0.2))

    fit = vb.fit(
        vb.Pair(model, guide),
        {"x": torch.zeros(1), "y": torch.tensor([2.0])},
        steps=1,
        learning_rate=1e-9,
        progress=False,
    )
    assert fit.diagnose().trust == "reweight"
    exact = 2.0 / 1.01
    plain, weighted = fit.predict(torch.zeros(1), method="guide"), fit.predict(torch.zeros(1))
    assert (plain.method, weighted.method) == ("guide", "psis") and "weights" in weighted.verdict()
    wide, narrow = (float(one["y"].std()) for one in (plain, weighted))
    right(plain["y"], 1.98, 0.05**0.5)
    assert narrow == pytest.approx((0.01 / 1.01 + 0.01) ** 0.5, rel=0.15) and wide > 1.4 * narrow
    assert abs(float(weighted["y"].mean()) - exact) < 0.03


# ---- latents of rows -------------------------------------------------------------------------------------------------


def local(x, y=None):
    with pyro.plate("data", len(x)):
        z = pyro.sample("z", dist.Normal(x, 1.0))
        pyro.sample("y", dist.Normal(z, 1.0), obs=y)


def test_latents_of_rows_that_the_guide_has_not_met_come_from_the_model():
    """Also where there are as many new rows as old ones."""
    x = torch.tensor([10.0, 20.0, 30.0])
    fit = trained(local, AutoNormal(local), {"x": torch.zeros(3), "y": torch.zeros(3)})
    for new in (x, x[:2], torch.cat([x, x])):
        found = vb.predict(fit, {"x": new}, draws=DRAWS)
        right(found["y"], new.numpy(), 2**0.5)
    assert found.method == "none" and found.latents["z"].startswith("drawn from the model")


def test_a_guide_that_computes_them_does():
    def guide(x, y=None):
        with pyro.plate("data", len(x)):
            pyro.sample("z", dist.Normal(x + (0.0 if y is None else (y - x) / 2), 0.5**0.5))

    data = {"x": torch.zeros(3), "y": torch.tensor([1.0, 2.0, 3.0])}
    fit = trained(local, guide, data)
    found = vb.predict(fit, {"x": torch.zeros(2), "y": torch.tensor([8.0, 4.0])}, draws=DRAWS)
    right(found["y"], [4.0, 2.0], 1.5**0.5)
    assert found.latents["z"].startswith("drawn by the guide")
    right(vb.predict(fit, {"x": torch.ones(2)}, draws=DRAWS)["y"], 1.0, 2**0.5)  # nothing is known of these rows
    right(vb.predict(fit, draws=DRAWS)["y"], data["y"].numpy() / 2, 1.5**0.5)


def test_images_through_a_code():
    x = binary(20)
    vae = vb.fit(small_vae(), x[:12], steps=3, progress=False)
    found = vb.predict(vae, x[12:], draws=20)
    assert found["x"].shape == (20, 8, 6) and found["x"].dims == ("draw", "data", "x_dim_1")
    by_number = vb.fit(vb.pairs.mean_field(6, 5, 2, rows=12), {"x": x[:12]}, steps=3, progress=False)
    assert vb.predict(by_number, x[12:], draws=5).latents["z"].startswith("drawn from the model")
    assert (
        vb.predict(by_number, by_number.data.rows(slice(3, 5)), draws=5).latents["z"].startswith("drawn by the guide")
    )


def test_sites_that_are_summed_out_come_from_their_conditional():
    def model(x, y=None):
        a = pyro.sample("a", dist.Normal(0.0, 1.0))
        with pyro.plate("data", len(x)):
            k = pyro.sample("k", dist.Categorical(torch.tensor([0.25, 0.75])), infer={"enumerate": "parallel"})
            pyro.sample("y", dist.Normal(a + torch.tensor([-10.0, 10.0])[k], 1.0), obs=y)

    def guide(x, y=None):
        pyro.sample("a", dist.Normal(0.0, 0.5))

    fit = trained(model, guide, {"x": torch.zeros(2), "y": torch.tensor([-9.0, 11.0])})
    right(vb.predict(fit, draws=DRAWS)["y"], [-10.0, 10.0], 1.25**0.5)
    right(vb.predict(fit, {"x": torch.zeros(1)}, draws=DRAWS)["y"], 5.0, (1.25 + 400 * 0.25 * 0.75) ** 0.5)
    right(vb.predict(fit, {"x": torch.zeros(1), "y": torch.tensor([12.0])}, draws=DRAWS)["y"], 10.0, 1.25**0.5)


def test_a_point_predicts_too():
    fit = vb.fit(vb.Pair(plain, AutoDelta(plain)), {"x": X, "y": Y}, steps=2, progress=False)
    w = fit.parameters["AutoDelta.w"]
    right(vb.predict(fit, {"x": NEW}, draws=DRAWS)["y"], (NEW @ w).numpy(), 0.5)


# ---- what can't be predicted ---------------------------------------------------------------------------------------


def test_what_is_missing_and_needed_is_said():
    def by_y(x, y):
        w = pyro.sample("w", dist.Normal(0.0, 1.0).expand([2]).to_event(1))
        with pyro.plate("data", len(y)):
            pyro.sample("y", dist.Normal(x @ w + y.mean(), 0.5), obs=y)

    fit = trained(by_y, weights, {"x": X, "y": Y})
    with pytest.raises(vb.errors.BadData, match="lacks 'y'.*depend on it.*def model\\(x, y=None\\)"):
        vb.predict(fit, {"x": NEW})
    fit = trained(plain, weights, {"x": X, "y": Y})
    with pytest.raises(vb.errors.BadData, match="'x'"):
        vb.predict(fit, {"y": torch.zeros(3)})
    with pytest.raises(vb.errors.BadData, match="columns z. Wanted"):
        vb.predict(fit, {"z": torch.zeros(3)})
    with pytest.raises(vb.errors.BadData, match="rows of shape \\(3,\\). Wanted: \\(2,\\)"):
        vb.predict(fit, {"x": torch.zeros(4, 3)})
    with pytest.raises(vb.errors.BadData, match="'x' of new_data has NaN.*1 of 3 rows \\(first: row 1\\)"):
        vb.predict(fit, {"x": torch.tensor([[1.0, 0.0], [1.0, float("nan")], [0.0, 1.0]])})


def test_a_model_of_so_many_rows_says_so():
    def model(x, y=None):
        w = pyro.sample("w", dist.Normal(0.0, 1.0).expand([2]).to_event(1))
        with pyro.plate("data", 4):
            pyro.sample("y", dist.Normal(x @ w, 0.5), obs=y)

    fit = trained(model, weights, {"x": X, "y": Y})
    with pytest.raises(vb.errors.Unsuitable, match="works only with its 4 rows.*pyro.plate\\('data', len\\(x\\)\\)"):
        vb.predict(fit, {"x": NEW})
    assert vb.predict(fit, {"x": X + 1}, draws=3)["y"].shape == (3, 4)


def test_latents_of_all_rows_together():
    """Of a process they are known at the rows of the fit alone, also where there are as many others; independent ones are each row's own."""

    def process(x, y=None):
        covariance = torch.exp(-0.5 * (x[:, None] - x) ** 2) + 0.01 * torch.eye(len(x))
        f = pyro.sample("f", dist.MultivariateNormal(torch.zeros(len(x)), covariance))
        with pyro.plate("data", len(x)):
            pyro.sample("y", dist.Normal(f, 0.1), obs=y)

    def apart(x, y=None):
        f = pyro.sample("f", dist.Normal(x, 1.0).to_event(1))
        with pyro.plate("data", len(x)):
            pyro.sample("y", dist.Normal(f, 1.0), obs=y)

    data = {"x": torch.arange(3.0), "y": torch.zeros(3)}
    fit = trained(process, AutoNormal(process), data)
    for count in (2, 3):
        with pytest.raises(
            vb.errors.Unsuitable,
            match="Latent 'f' of pair 'process' has a value for each row, and these values are not independent",
        ):
            vb.predict(fit, {"x": 5 + torch.arange(float(count))})
    assert vb.predict(fit, draws=3)["y"].shape == (3, 3)
    found = vb.predict(trained(apart, AutoNormal(apart), data), {"x": 5 + torch.arange(3.0)}, draws=DRAWS)
    right(found["y"], [5.0, 6.0, 7.0], 2**0.5)


# ---- the result ----------------------------------------------------------------------------------------------------


def test_the_same_by_a_fit_and_along_a_line():
    fit = vb.fit(vb.Pair(plain, AutoNormal(plain)), {"x": X, "y": Y}, steps=2, progress=False)
    found = fit.predict({"x": NEW}, draws=30, method="guide", seed=4)
    np.testing.assert_array_equal(found["y"], vb.predict(fit, {"x": NEW}, draws=30, seed=4)["y"])
    with pytest.raises(vb.errors.UnknownKeyword, match="draws"):
        fit.predict({"x": NEW}, draw=3, method="guide")
    assert found.to_dataframe("mu").shape == (3, 5)


def test_names_are_predicted_as_names():
    def model(x, kind=None):
        a = pyro.sample("a", dist.Normal(0.0, 1.0))
        with pyro.plate("data", len(x)):
            pyro.sample("kind", dist.Bernoulli(logits=a + x), obs=None if kind is None else kind.float())

    def guide(x, kind=None):
        pyro.sample("a", dist.Normal(0.0, 0.01))

    frame = pd.DataFrame({"x": [-1.0, 1.0, 2.0], "kind": ["bad", "good", "good"]})
    table = vb.predict(trained(model, guide, frame), pd.DataFrame({"x": [-5.0, 0.0, 5.0]}), draws=DRAWS).to_dataframe()
    assert list(table.columns) == ["data", "x", "likeliest", "P(bad)", "P(good)"]
    assert table.likeliest[0] == "bad" and table.likeliest[2] == "good" and abs(table["P(good)"][1] - 0.5) < 0.05
    np.testing.assert_allclose(table["P(bad)"] + table["P(good)"], 1.0)


def coin(side, toss=None):
    p = pyro.sample("p", dist.Beta(torch.ones(2), 1.0).to_event(1))
    with pyro.plate("data", len(side)):
        pyro.sample("toss", dist.Bernoulli(p[side]), obs=toss)


def tosses(side, toss=None):
    pyro.sample("p", dist.Beta(torch.tensor([3.0, 9.0]), torch.tensor([5.0, 2.0])).to_event(1))


def test_a_binary_outcome_is_predicted_by_its_probability():
    """With the interval of that: the one of the outcomes is 0 to 1, whatever is known."""
    data = {"side": torch.tensor([0, 1]), "toss": torch.tensor([0.0, 1.0])}
    found = vb.predict(trained(coin, tosses, data), {"side": torch.tensor([1, 0, 1])}, draws=DRAWS, interval=0.8)
    sure, doubtful = (scipy.stats.beta(*ab) for ab in ((9, 2), (3, 5)))
    laws = (sure, doubtful, sure)
    right(found["toss_probability"], np.array([law.mean() for law in laws]), np.array([law.std() for law in laws]))
    assert set(np.unique(found["toss"])) == {0.0, 1.0} and found["toss_probability"].dims == ("draw", "data")
    for row in range(3):  # the outcome of a draw has the probability of that draw
        p, y = (found[name][:, row].to_numpy() for name in ("toss_probability", "toss"))
        assert abs((y - p).mean()) < 5 * np.sqrt((p * (1 - p)).mean() / DRAWS)
        assert np.corrcoef(y, p)[0, 1] > 5 / DRAWS**0.5
    table = found.to_dataframe()
    assert list(table.columns) == ["data", "side", "probability", "sd", "10%", "90%"]
    for column, truth in (
        ("probability", sure.mean()),
        ("sd", sure.std()),
        ("10%", sure.ppf(0.1)),
        ("90%", sure.ppf(0.9)),
    ):
        assert table[column][0] == pytest.approx(truth, abs=0.03)
    assert found.sites == ("toss",) and found.probabilities == {"toss": "toss_probability"}
    assert "the table has the probability of a 1" in found.verdict()
    assert found.plot().get_ylabel() == "the probability of toss"


def test_a_site_of_that_name_stays_what_it_is():
    def model(side, toss=None):
        coin(side, toss)
        pyro.deterministic("toss_probability", torch.tensor(7.0))

    data = {"side": torch.tensor([0, 1]), "toss": torch.tensor([0.0, 1.0])}
    found = vb.predict(trained(model, tosses, data), {"side": torch.tensor([1])}, draws=5)
    assert float(found["toss_probability"].mean()) == 7.0 and found.probabilities == {}
    assert "mean" in found.to_dataframe()


def test_categories_without_names_are_predicted_by_their_probabilities():
    """Their mean would be that of codes."""

    def model(x, kind=None):
        a = pyro.sample("a", dist.Normal(0.0, 1.0))
        with pyro.plate("data", len(x)):
            logits = torch.stack([a - x, a * torch.ones_like(x), a + x], -1)
            pyro.sample("kind", dist.Categorical(logits=logits), obs=kind)

    def guide(x, kind=None):
        pyro.sample("a", dist.Normal(0.0, 0.01))

    fit = trained(model, guide, {"x": torch.tensor([0.0, 1.0]), "kind": torch.tensor([0, 2])})
    table = vb.predict(fit, {"x": torch.tensor([-9.0, 9.0])}, draws=50).to_dataframe()
    assert list(table.columns) == ["data", "x", "likeliest", "P(0)", "P(1)", "P(2)"]
    assert table.likeliest.tolist() == ["0", "2"] and (table[["P(0)", "P(1)", "P(2)"]].sum(axis=1) == 1).all()


def test_rows_in_a_loop():
    """By places: a chain goes on from its last row, independent rows are new."""

    def chain(x, y=None):
        z = 0.0
        for t in pyro.markov(range(len(x))):
            z = pyro.sample(f"z{t}", dist.Normal(z + x[t], 1.0))
            pyro.sample(f"y{t}", dist.Normal(z, 0.5), obs=None if y is None else y[t])

    def knows(x, y=None):
        for t in range(len(x)):
            pyro.sample(f"z{t}", dist.Normal(3.0 * t, 0.1))

    fit = trained(chain, knows, {"x": torch.zeros(3), "y": torch.zeros(3)})
    found = vb.predict(fit, {"x": torch.tensor([0.0, 0.0, 0.0, 1.0, 1.0])}, draws=DRAWS)
    assert found.sites == ("y0", "y1", "y2", "y3", "y4")
    right(found["y1"], 3.0, 0.26**0.5)
    right(found["y4"], 8.0, 2.26**0.5)
    assert found.to_dataframe().site.tolist() == list(found.sites)

    def apart(x, y=None):
        for i in pyro.plate("data", len(x)):
            z = pyro.sample(f"z{i}", dist.Normal(x[i], 1.0))
            pyro.sample(f"y{i}", dist.Normal(z, 0.5), obs=None if y is None else y[i])

    fit = trained(apart, knows, {"x": torch.zeros(3), "y": torch.zeros(3)})
    right(vb.predict(fit, {"x": torch.tensor([7.0, 8.0])}, draws=DRAWS)["y1"], 8.0, 1.25**0.5)


def test_a_plate_of_many_rows_of_which_some_are_handed_in():
    def model(x, y=None):
        w = pyro.sample("w", dist.Normal(0.0, 1.0).expand([2]).to_event(1))
        with pyro.plate("data", 4, subsample_size=len(x)):
            pyro.sample("y", dist.Normal(x @ w, 0.5), obs=y)

    found = vb.predict(trained(model, weights, {"x": X, "y": Y}), {"x": NEW}, draws=DRAWS)
    right(found["y"], (NEW @ MEAN).numpy(), (((NEW @ COVARIANCE) * NEW).sum(1) + 0.25).sqrt().numpy())


def test_a_model_without_latents_predicts_by_its_parameters():
    def model(x, y=None):
        slope = pyro.param("slope", torch.tensor(2.0))
        with pyro.plate("data", len(x)):
            pyro.sample("y", dist.Normal(slope * x, 0.5), obs=y)

    fit = vb.fit(
        vb.Pair(model, lambda x, y=None: None),
        {"x": torch.ones(2), "y": torch.full((2,), 2.0)},
        steps=1,
        learning_rate=1e-9,
        compile=False,
        progress=False,
    )
    found = fit.predict(torch.tensor([3.0]), draws=DRAWS)
    right(found["y"], 6.0, 0.5)
    assert found.method == "none" and "no latents" in found.verdict()


def test_draws_that_are_not_to_be_used_are_said_to_be():
    """By words, by a warning, and in what is made of a prediction."""

    def model(x, y=None):
        m = pyro.sample("m", dist.Normal(0.0, 1.0))
        with pyro.plate("data", len(x)):
            pyro.sample("y", dist.Normal(m + 0 * x, 0.1), obs=y)

    def guide(x, y=None):  # elsewhere
        pyro.sample("m", dist.Normal(pyro.param("loc", torch.tensor(3.0)), 0.05))

    data = {"x": torch.zeros(1), "y": torch.tensor([2.0])}
    fit = vb.fit(vb.Pair(model, guide), data, steps=1, learning_rate=1e-9, compile=False, progress=False)
    assert vb.predict(fit, torch.zeros(1), draws=5).trust == ""  # nobody has asked
    with pytest.warns(UserWarning, match="draws of this fit should not be used"):
        found = fit.predict(torch.zeros(1), draws=5)
    assert (
        found.trust == "bad: do not use the draws"
        and "should not be used" in found.verdict()
        and found.trust in repr(found)
    )
    assert found.to_dataframe().attrs["trust"] == found.trust
    assert fit.to_arviz(draws=5, predictions=found)["predictions"].attrs["trust"] == found.trust
