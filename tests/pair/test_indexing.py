"""What a model picks from by which column, and two columns of names that pick from one plate."""

from __future__ import annotations

import pandas as pd
import pyro
import pyro.distributions as dist
import pytest
import torch

import vbayes as vb
from vbayes.data.dataset import Batch
from vbayes.pair.indexing import picked

G, H = torch.tensor([0, 1, 2, 0]), torch.tensor([2, 2, 0, 1])


def plate(name, size=3, dim=-1):
    with pyro.plate(name, size, dim=dim):
        return pyro.sample(f"z_{name}", dist.Normal(torch.zeros(()), 1.0))


def through_a_sum(g, h, y):
    scaled = pyro.deterministic("scaled", 2 + 3 * plate("a"))
    return scaled[g]


def crossed(g, h, y):
    return (plate("a") + plate("b", 4, dim=-2))[h, g]


def swapped(g, h, y):
    return plate("a").index_select(0, h) + torch.gather(plate("b"), 0, g)


def embedded(g, h, y):
    with pyro.plate("a", 3):
        table = pyro.sample("table", dist.Normal(torch.zeros(2), 1.0).to_event(1))
    return torch.nn.functional.embedding(g, table).sum(-1) + table[..., 0][h]


def of_one_size(g, h, y):
    with pyro.plate("a", 3):
        square = pyro.sample("square", dist.Normal(torch.zeros(3), 1.0).to_event(1))
    return square[:, 0][g]


def by_a_matrix(g, h, y):
    return torch.nn.functional.one_hot(g, 3).float() @ plate("a")


@pytest.mark.parametrize(
    ("mean", "found"),
    [
        (through_a_sum, {"a": {"g"}}),
        (crossed, {"a": {"g"}, "b": {"h"}}),
        (swapped, {"a": {"h"}, "b": {"g"}}),
        (embedded, {"a": {"g", "h"}}),
        (of_one_size, {}),
        (by_a_matrix, {}),
    ],
)
def test_plates_and_the_columns_that_pick_from_them(mean, found):
    def model(g, h, y):
        mu = mean(g, h, y)
        with pyro.plate("data", len(y)):
            pyro.sample("y", dist.Normal(mu, 1.0), obs=y)

    args = G, H, torch.zeros(4)
    pair = vb.Pair(model, pyro.infer.autoguide.AutoNormal(model)).initialise(Batch(args))
    by = picked(pair, args, ("g", "h", "y"))
    assert {key: set(columns) for key, columns in by.items() if isinstance(key, str)} == found


def teams(plated):
    def model(home, away, goals):
        if plated:
            skill = plate("skill", 4)
        else:
            skill = pyro.sample("skill", dist.Normal(torch.zeros(4), 1.0).to_event(1))
        with pyro.plate("data", len(goals)):
            pyro.sample("goals", dist.Normal(skill[home] - skill[away], 1.0), obs=goals)

    return model


GAMES = pd.DataFrame({"home": ["Ajax", "Bari", "Celta"], "away": ["Bari", "Celta", "Derby"], "goals": [1.0, 2.0, 0.0]})


@pytest.mark.parametrize("plated", [True, False])
def test_two_columns_of_names_that_are_coded_apart(plated):
    pair = vb.Pair(teams(plated), "diagonal")
    with pytest.raises(
        vb.errors.BadData,
        match="'home' and 'away' of 'data' both index .* coded separately: 0 is 'Ajax' in one and 'Bari' in the other.*sorted\\({\\*table\\['home'\\], \\*table\\['away'\\]}\\)",
    ):
        vb.fit(pair, GAMES, steps=1, compile=False, progress=False)
    names = sorted({*GAMES.home, *GAMES.away})
    both = GAMES.assign(**{column: pd.Categorical(GAMES[column], names) for column in ("home", "away")})
    assert vb.fit(pair, both, steps=1, compile=False, progress=False).data.labels["away"] == tuple(names)


def test_columns_that_pick_from_different_parts_of_a_latent_may_have_other_names():
    def model(home, away, goals):
        w = pyro.sample("w", dist.Normal(torch.zeros(4, 2), 1.0).to_event(2))
        with pyro.plate("data", len(goals)):
            pyro.sample("goals", dist.Normal(w[home, 0] - w[away, 1], 1.0), obs=goals)

    vb.fit(vb.Pair(model, "diagonal"), GAMES, steps=1, compile=False, progress=False)


def numbers(first, second):
    def model(home, away, goals):
        with pyro.plate("team", 4):
            w = pyro.sample("w", dist.Normal(torch.zeros(2), 1.0).to_event(1))
        with pyro.plate("data", len(goals)):
            pyro.sample("goals", dist.Normal(first(w, home) - second(w, away), 1.0), obs=goals)

    return vb.Pair(model, "diagonal")


def test_columns_that_pick_different_numbers_of_a_row_are_warned_of():
    """The row has two names: it may be that of two things, or one thing's whose columns are coded apart."""
    pair = numbers(lambda w, home: w[home, 0], lambda w, away: w[..., away, -1])
    with pytest.warns(UserWarning, match="different parts of these rows, which therefore get no labels.*sorted"):
        fit = vb.fit(pair, GAMES, steps=1, compile=False, progress=False)
    assert list(fit.to_arviz(draws=2)["posterior"].coords["team"].values) == [0, 1, 2, 3]
    for second in (lambda w, away: w[away].sum(-1), lambda w, away: w[away, -2]):
        with pytest.raises(vb.errors.BadData, match="rows of plate 'team'.*or a plate for each"):
            vb.fit(numbers(lambda w, home: w[home, 0], second), GAMES, steps=1, compile=False, progress=False)


def test_parts_of_one_plate_are_named_by_the_column_that_has_them():
    """Either column has codes of its own; the names that it has for the others' stand for nothing."""
    table = GAMES.assign(
        home=pd.Categorical(["Ajax", "Bari", "Ajax"], ["Ajax", "Bari"]),
        away=pd.Categorical(["Celta", "Derby", "Derby"], ["-", "+", "Celta", "Derby"]),
    )
    fit = vb.fit(vb.Pair(teams(True), "diagonal"), table, steps=1, compile=False, progress=False)
    assert list(fit.to_arviz(draws=2)["posterior"].coords["skill"].values) == ["Ajax", "Bari", "Celta", "Derby"]
    other = table.assign(away=pd.Categorical(["-", "Derby", "Derby"], ["-", "+", "Celta", "Derby"]))
    for verb in (fit.predict, fit.diagnose):
        with pytest.raises(vb.errors.BadData, match="0 is 'Ajax' in one and '-' in the other"):
            verb(other)


def test_a_model_that_takes_plain_tensors_alone_is_watched_all_the_same():
    def model(g, y):
        tau = pyro.sample("tau", dist.HalfNormal(1.0))
        with pyro.plate("groups", 3):
            z = pyro.sample("z", dist.Normal(torch.zeros(()), 1.0))
        assert type(z) is torch.Tensor, "as some operations want"
        with pyro.plate("data", len(y)):
            pyro.sample("y", dist.Normal((tau * z)[g], 1.0), obs=y)

    table = pd.DataFrame({"g": ["b", "a", "c"], "y": [1.0, 2.0, 0.0]})
    fit = vb.fit(vb.Pair(model, "diagonal"), table, steps=1, compile=False, progress=False)
    assert list(fit.to_arviz(draws=2)["posterior"].coords["groups"].values) == ["a", "b", "c"]


def test_what_can_not_be_watched_is_said_with_what_to_do(monkeypatch):
    def model(g, y):
        with pyro.plate("groups", 3):
            z = pyro.sample("z", dist.Normal(torch.zeros(()), 1.0))
        with pyro.plate("data", len(y)):
            pyro.sample("y", dist.Normal(z[g], 1.0), obs=y)

    def refuses(*args):
        raise RuntimeError("compiled")

    table = pd.DataFrame({"g": ["b", "a", "c"], "y": [1.0, 2.0, 0.0]})
    fit = vb.fit(vb.Pair(model, "diagonal"), table, steps=1, compile=False, progress=False)
    monkeypatch.setattr("vbayes.pair.indexing._Watch.follow", refuses)
    with pytest.warns(UserWarning, match="pair 'model' does not run while it is watched.*coords={plate: names}"):
        fit.to_arviz(draws=2)
    found = fit.to_arviz(draws=2, coords={"groups": ["a", "b", "c"]})
    assert list(found["posterior"].coords["groups"].values) == ["a", "b", "c"]
