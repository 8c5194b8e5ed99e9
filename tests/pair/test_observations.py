"""A model whose optional arguments get no column may observe nothing: an error, for its outcome would be trained as a latent."""

from __future__ import annotations

import pandas as pd
import pyro
import pyro.distributions as dist
import pytest
import torch

import vbayes as vb
from vbayes.pair.observations import require_observations
from vbayes.pair.problem import Problem

X = torch.linspace(-1.0, 1.0, 6)
TABLE = pd.DataFrame({"x": X.numpy(), "Score": 1.0})


def line(x, weight=None, score=None):
    slope = pyro.sample("slope", dist.Normal(0.0, 1.0))
    with pyro.plate("data", len(x)):
        pyro.sample("score", dist.Normal(slope * x, 1.0), obs=score)


def factored(x, score=None):
    slope = pyro.sample("slope", dist.Normal(0.0, 1.0))
    pyro.factor("density", -((slope - x) ** 2).sum())


@pytest.mark.parametrize("verb", [vb.fit, vb.check, Problem.of])
def test_an_outcome_without_its_column_is_refused_before_a_guide_is_made(verb):
    said = "The model observes nothing: argument 'score' has no column. Did you mean 'Score'[?] The columns of 'data': x, Score"
    with pytest.raises(vb.errors.BadData, match=said):
        verb(lambda x, score=None: line(x, score=score), TABLE)


def test_without_names_the_argument_gets_no_data():
    with pytest.raises(vb.errors.BadData, match="observes nothing: argument 'score' gets no data"):
        vb.check(line, (X,))


@pytest.mark.parametrize(
    ("model", "data"),
    [
        (lambda x, score=None, weight=None: line(x, weight, score), TABLE.rename(columns={"Score": "score"})),
        (factored, TABLE),
        (lambda x, score=None: pyro.sample("x", dist.Normal(score or 0.0, 1.0).expand([6]).to_event(1), obs=x), TABLE),
    ],
    ids=["another optional argument", "a factor", "other observations"],
)
def test_models_that_have_something_to_learn_from_are_left_alone(model, data):
    require_observations(vb.Pair(model), vb.Dataset.of(data), None)


def test_the_look_makes_no_parameters():
    def model(x, score=None):
        shift = pyro.param("shift", torch.tensor(0.0))
        pyro.sample("x", dist.Normal(shift, 1.0).expand([6]).to_event(1), obs=x)

    pair = vb.Pair(model, lambda x, score=None: None)
    require_observations(pair, vb.Dataset.of(TABLE), None)
    assert not pair.parameters
