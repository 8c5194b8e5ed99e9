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
