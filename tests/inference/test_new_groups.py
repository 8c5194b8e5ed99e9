"""Predictions for groups that a fit has not met, in closed form."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pyro
import pyro.distributions as dist
import pytest
import torch

import vbayes as vb
from tests.inference.trained import DRAWS, Trained, right, trained

GROUPS = ["Aitkin", "Anoka", "Becker", "Brown"]

# ---- groups: y ~ N(a[g], 1), a ~ N(m, 2), m ~ N(0, 1) ----------------------------------------------------------------

G = torch.arange(4).repeat(3)
HELD = torch.tensor([0.5, -1.0, 2.0, 4.0])


def grouped(kind):
    def model(g, y=None):
        size = int(g.max()) + 1 if kind == "grown" else 4
        m = pyro.sample("m", dist.Normal(1.0, 0.5))
        if kind == "event":
            a = pyro.sample("a", dist.Normal(m, 2.0).expand([4]).to_event(1))
        elif kind == "noncentred":
            with pyro.plate("groups", size):
                raw = pyro.sample("raw", dist.Normal(g.new_zeros((), dtype=torch.float), 1.0))
            a = pyro.deterministic("a", m + 2 * raw)
        else:
            with pyro.plate("groups", size):
                a = pyro.sample("a", dist.Normal(m, 2.0))
                pyro.deterministic("double", 2 * a)
        with pyro.plate("data", len(g)):
            pyro.sample("y", dist.Normal(a[g], 1.0), obs=y)

    def guide(g, y=None):
        m = pyro.sample("m", dist.Normal(1.5, 0.25))
        if kind == "event":
            pyro.sample("a", dist.Normal(HELD, 0.5).to_event(1))
        elif kind == "noncentred":
            with pyro.plate("groups", 4):
                pyro.sample("raw", dist.Normal((HELD - m) / 2, 0.25))
        else:
            with pyro.plate("groups", 4):
                pyro.sample("a", dist.Normal(HELD, 0.5))

    return model, guide


KINDS = ["fixed", "grown", *(pytest.param(kind, marks=pytest.mark.slow) for kind in ("event", "noncentred"))]


@pytest.mark.parametrize(
    ("kind", "names"),
    [
        *((kind, True) for kind in ("fixed", "grown", "event", "noncentred")),
        ("fixed", False),
        *(pytest.param(kind, False, marks=pytest.mark.slow) for kind in ("grown", "event", "noncentred")),
    ],
)
def test_new_groups_come_from_the_population(kind, names):
    """In closed form: y of a new group ~ N(1.5, ¼² + 2² + 1), two of one group share its a, and two groups their m."""
    old = [GROUPS[i] for i in G] if names else G
    fit = trained(
        *grouped(kind),
        pd.DataFrame({"g": old, "y": 0.0}).astype({"y": "float32"}) if names else {"g": G, "y": torch.zeros(12)},
    )
    new = ["Nowhere", "Brown", "Nowhere", "Elsewhere"] if names else torch.tensor([5, 3, 5, 4])
    found = vb.predict(fit, pd.DataFrame({"g": new}) if names else {"g": new}, draws=DRAWS)
    y = found["y"].to_numpy()
    spread = (0.25**2 + 4 + 1) ** 0.5
    right(y, [1.5, 4.0, 1.5, 1.5], np.array([spread, 1.25**0.5, spread, spread]))
    within, between = np.cov(y[:, 0], y[:, 2])[0, 1], np.cov(y[:, 0], y[:, 3])[0, 1]
    se = spread**2 * (2 / DRAWS) ** 0.5
    assert abs(within - 4.0625) < 5 * se and abs(between - 0.0625) < 5 * se
    called = {"Nowhere", "Elsewhere"} if names else {"4", "5"}
    assert set(found.new_groups["g"]) == called and "2 new groups of g, drawn from the population: " in found.verdict()
    if kind in ("fixed", "grown"):  # groups keep their names
        labels = found["double"].coords["groups"].values.tolist()
        right(found["double"].sel(groups="Brown" if names else 3), 8.0, 1.0)
        assert set(labels) >= ({"Brown", "Nowhere", "Elsewhere"} if names else {3, 4, 5})


@pytest.mark.parametrize("kind", KINDS)
def test_fewer_groups_and_more_than_the_model_has_places_for(kind):
    fit = trained(*grouped(kind), {"g": G, "y": torch.zeros(12)})
    few = vb.predict(fit, {"g": torch.tensor([1, 0])}, draws=DRAWS)
    right(few["y"], [-1.0, 0.5], 1.25**0.5)
    assert not few.new_groups
    codes = torch.tensor([*range(12), 11, 2])
    many = vb.predict(fit, {"g": codes}, draws=DRAWS)
    known = np.array([0.5, -1.0, 2.0, 4.0, *[1.5] * 9, 2.0])
    right(many["y"], known, np.where(codes.numpy() < 4, 1.25**0.5, (0.25**2 + 5) ** 0.5))
    y = many["y"].to_numpy()
    assert np.corrcoef(y[:, 11], y[:, 12])[0, 1] > 0.7 > 0.1 > abs(np.corrcoef(y[:, 10], y[:, 11])[0, 1])
    assert np.corrcoef(y[:, 2], y[:, 13])[0, 1] > 0.1


def test_groups_that_are_not_alike_are_refused():
    """Whose numbers, or what is known of each, the model knows: a place in the plate then says something."""
    size = torch.tensor([1.0, 2.0, 3.0, 4.0])

    def covariate(g, y=None):
        with pyro.plate("groups", 4):
            a = pyro.sample("a", dist.Normal(size, 2.0))
        with pyro.plate("data", len(g)):
            pyro.sample("y", dist.Normal(a[g], 1.0), obs=y)

    def walk(g, y=None):
        with pyro.plate("groups", 4):
            a = pyro.sample("a", dist.Normal(g.new_zeros((), dtype=torch.float), 1.0)).cumsum(0)
        with pyro.plate("data", len(g)):
            pyro.sample("y", dist.Normal(a[g], 1.0), obs=y)

    def guide(g, y=None):
        with pyro.plate("groups", 4):
            pyro.sample("a", dist.Normal(HELD, 0.5))

    frame = pd.DataFrame({"g": [GROUPS[i] for i in G], "y": np.zeros(12)})
    for model in (covariate, walk):
        with pytest.raises(vb.errors.Unsuitable, match="new groups \\(Nowhere\\).*no plate of exchangeable groups"):
            vb.predict(trained(model, guide, frame), pd.DataFrame({"g": ["Nowhere"]}))
        found = vb.predict(trained(model, guide, frame), pd.DataFrame({"g": ["Anoka"]}), draws=DRAWS)
        right(found["y"], -1.0 if model is covariate else -0.5, 1.25**0.5 if model is covariate else 1.5**0.5)


def test_a_walk_that_grows_goes_on():
    """Its plate grows with time, and what comes after the last time is drawn from there."""

    def walk(t, y=None):
        with pyro.plate("time", int(t.max()) + 1):
            steps = pyro.sample("steps", dist.Normal(torch.zeros(()), 1.0))
        with pyro.plate("data", len(t)):
            pyro.sample("y", dist.Normal(steps.cumsum(0)[t], 0.5), obs=y)

    def guide(t, y=None):
        with pyro.plate("time", 4):
            pyro.sample("steps", dist.Normal(HELD, 0.1))

    fit = trained(walk, guide, {"t": torch.arange(4), "y": torch.zeros(4)})
    found = vb.predict(fit, {"t": torch.tensor([3, 4, 6])}, draws=DRAWS)
    right(found["y"], 5.5, np.array([0.29, 1.29, 3.29]) ** 0.5)


def test_integers_that_number_nothing():
    """A count of trials may be larger than any the fit has met."""

    def model(n, y=None):
        p = pyro.sample("p", dist.Beta(2.0, 2.0))
        with pyro.plate("data", len(n)):
            pyro.sample("y", dist.Binomial(n, p), obs=y)

    def guide(n, y=None):
        pyro.sample("p", dist.Beta(20.0, 20.0))

    fit = trained(model, guide, {"n": torch.tensor([3, 5]), "y": torch.tensor([1.0, 2.0])})
    found = vb.predict(fit, {"n": torch.tensor([100])}, draws=DRAWS)
    right(found["y"], 50.0, (25 + (100 * 100 - 100) * 0.25 / 41) ** 0.5)
    assert not found.new_groups


def test_groups_that_are_all_the_same_to_the_model():
    def model(g, y=None):
        m = pyro.sample("m", dist.Normal(0.0, 1.0))
        offset = pyro.param("offset", torch.zeros(4))
        with pyro.plate("data", len(g)):
            pyro.sample("y", dist.Normal(m + offset[g], 1.0), obs=y)

    def guide(g, y=None):
        pyro.sample("m", dist.Normal(2.0, 0.1))

    frame = pd.DataFrame({"g": [GROUPS[i] for i in G], "y": np.zeros(12)})
    fit = trained(model, guide, frame)
    found = vb.predict(fit, pd.DataFrame({"g": ["Nowhere"]}), draws=DRAWS)
    right(found["y"], 2.0, 1.01**0.5)
    assert found.to_dataframe().g[0] == "Nowhere" and not found.new_groups
    other = Trained(fit.pair.at({"offset": torch.arange(4.0)}), fit.data)
    with pytest.raises(vb.errors.Unsuitable, match="no plate of exchangeable groups"):
        vb.predict(other, pd.DataFrame({"g": ["Nowhere"]}))


def test_flat_priors_have_no_new_groups():
    def model(g, y=None):
        with pyro.plate("groups", 4):
            a = pyro.sample("a", dist.ImproperUniform(dist.constraints.real, (), ()))
        with pyro.plate("data", len(g)):
            pyro.sample("y", dist.Normal(a[g], 1.0), obs=y)

    def guide(g, y=None):
        with pyro.plate("groups", 4):
            pyro.sample("a", dist.Normal(HELD, 0.5))

    fit = trained(model, guide, {"g": G, "y": torch.zeros(12)})
    assert vb.predict(fit, {"g": torch.tensor([2])}, draws=3)["y"].shape == (3, 1)
    with pytest.raises(vb.errors.Unsuitable, match="New rows of 'a' can't be drawn"):
        vb.predict(fit, {"g": torch.tensor([9])}, draws=3)


def test_a_table_a_figure_and_words():
    fit = trained(*grouped("fixed"), pd.DataFrame({"g": [GROUPS[i] for i in G], "y": np.zeros(12)}))
    found = vb.predict(fit, pd.DataFrame({"g": ["Brown", "Nowhere"]}), draws=2000, interval=0.8)
    table = found.to_dataframe()
    assert list(table.columns) == ["data", "g", "mean", "sd", "10%", "90%"] and table.g.tolist() == ["Brown", "Nowhere"]
    y = found["y"].to_numpy()
    np.testing.assert_allclose(table["90%"], np.quantile(y, 0.9, axis=0), rtol=1e-5)
    np.testing.assert_allclose(table["sd"], y.std(0, ddof=1), rtol=1e-4)
    np.testing.assert_allclose(found.bounds()["y"].sel(bound="upper"), table["90%"])
    np.testing.assert_allclose(found.quantile(0.9)["y"], table["90%"])
    np.testing.assert_allclose(found.mean()["y"], table["mean"])
    np.testing.assert_allclose(found.std()["y"], table["sd"])
    assert len(found) == 2000 and "new groups  1 of g: Nowhere" in repr(found) and "<table>" in found._repr_html_()
    assert [len(found.to_dataframe("double")), len(found.to_dataframe())] == [2, 2]
    found.plot()
    with pytest.raises(vb.errors.BadInput, match="no prediction of 'a'"):
        found["a"]
