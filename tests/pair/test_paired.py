"""A model alone is taken wherever a pair is, gets the same guide everywhere, and every result says which."""

from __future__ import annotations

import pandas as pd
import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro.infer.autoguide import AutoNormal
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import vbayes as vb
from tests.quick import some_quick

X = torch.tensor([0.5, 1.5, 1.0])
LOG_EVIDENCE = float(dist.MultivariateNormal(torch.zeros(3), torch.eye(3) + 1.0).log_prob(X))
quiet = {"progress": False}


def model(x):
    mu = pyro.sample("mu", dist.Normal(0.0, 1.0))
    with pyro.plate("data", len(x)):
        pyro.sample("x", dist.Normal(mu, 1.0), obs=x)


RESULTS = {
    "check": lambda: vb.check(model, X, show=False),
    "posterior": lambda: vb.posterior(model, X, draws=30),
    "evidence": lambda: vb.log_evidence(model, X, num_particles=4, **quiet),
    "diagnosis": lambda: vb.diagnose(model, X, draws=100),
    "comparison": lambda: vb.compare(model, X, ["pathwise"], steps=0, replicas=100, **quiet),
    "race": lambda: vb.race(model, X, ["stl"], steps=1, seeds=1, evaluations=1, compile=False, **quiet),
    "recommendation": lambda: vb.recommend(
        model, X, ["pathwise"], particles=(1,), noise=("iid",), budget=0.01, compile=False, **quiet
    ),
    "noise": lambda: vb.noise_split(
        model, X, "pathwise", batch_sizes=(2,), particles=(1,), minibatches=10, draws=2, **quiet
    ),
    "fit": lambda: vb.fit(model, X, **quiet),
}


@pytest.mark.parametrize("verb", some_quick(RESULTS, ("check", "posterior", "evidence", "diagnosis", "fit")))
def test_every_verb_takes_a_model_alone_and_says_what_its_guide_is(verb):
    lines = [line.split() for line in repr(RESULTS[verb]()).splitlines()]
    assert ["guide", "full-rank", "normal"] in lines


def test_verbs_that_return_something_else_take_it_too(tmp_path):
    assert float(vb.tabulate(model, X).log_evidence()) == pytest.approx(LOG_EVIDENCE, abs=1e-4)
    models = {"alone": model, "pair": vb.Pair(model)}
    both = vb.compare_models(models, X, num_particles=2000, seed=0, **quiet).evidences
    assert both["alone"].value == both["pair"].value == pytest.approx(LOG_EVIDENCE, abs=1e-3), "q is the posterior"
    fit = vb.fit(model, X, **quiet)
    fit.save(tmp_path / "fit.safetensors")
    loaded = vb.Fit.load(tmp_path / "fit.safetensors", model, X)
    assert all(torch.equal(value, loaded.parameters[name]) for name, value in fit.parameters.items())


def test_it_is_the_guide_of_a_fit():
    one, other = vb.posterior(model, X, draws=5, seed=1), vb.posterior(vb.fit(model, X, **quiet), draws=5, seed=1)
    torch.testing.assert_close(one.draws["mu"], other.draws["mu"])
    assert one.guide == other.guide == vb.diagnose(model, X, draws=100).guide == "full-rank normal"


def test_the_table_of_a_check_says_it_too(capsys):
    vb.check(model, X)
    assert "pair 'model', guide: full-rank normal" in " ".join(capsys.readouterr().out.split())
    assert vb.check(vb.pairs.normal_normal(), X[:2], show=False).guide == ""


def test_a_check_of_a_fit_brings_its_data():
    fit = vb.fit(model, {"x": X}, steps=1, compile=False, **quiet)
    assert vb.check(fit, show=False) == vb.check(fit.pair, X, show=False)


def test_a_module_is_a_model():
    class Line(nn.Module):
        def forward(self, x):
            model(x)

    assert vb.diagnose(Line(), X, draws=100).trust == "good"


@pytest.mark.parametrize("verb", [vb.check, vb.posterior, vb.tabulate, vb.compare, vb.noise_split, vb.Fit.load])
def test_what_makes_no_pair_is_told_the_same_way_everywhere(verb):
    given = ("nowhere.safetensors",) if verb == vb.Fit.load else ()
    with pytest.raises(vb.errors.BadInput, match="is a str, not a pair. Wanted: a vb.Pair, a vb.Fit"):
        verb(*given, "vae", X)


def test_a_pair_taken_out_of_a_fit_knows_names_as_the_fit_does(tmp_path):
    def grouped(g, x):
        with pyro.plate("groups", 3):
            mu = pyro.sample("mu", dist.Normal(0.0, 1.0))
        with pyro.plate("data", len(x)):
            pyro.sample("x", dist.Normal(mu[g], 1.0), obs=x)

    table = pd.DataFrame({"g": ["a", "b", "c"], "x": [0.5, -3.0, 9.0]})
    fit = vb.fit(grouped, table, steps=1, compile=False, **quiet)
    loaded = vb.Fit.load(fit.save(tmp_path / "fit.safetensors"), grouped, table)
    for pair in (fit.pair, fit.pair.copy(), loaded.pair):
        one, other = (vb.posterior(given, table[2:], draws=20, seed=0) for given in (pair, fit))
        assert one.log_density is not None and torch.equal(one.log_density, other.log_density)
        assert torch.equal(one.effective, other.effective), "c is the third group, not the first"
        assert list(one.labels["groups"]) == ["a", "b", "c"]
    with pytest.raises(vb.errors.BadData, match="g"):
        vb.check(fit.pair, pd.DataFrame({"g": [0.5], "x": [1.0]}), show=False)
    by_rows = vb.fit(vb.Pair(grouped, AutoNormal(grouped)), table, steps=1, compile=False, **quiet)
    loader = DataLoader(TensorDataset(torch.tensor([2, 0, 1]), X), batch_size=2)
    for given in (by_rows, by_rows.pair):
        assert vb.fit(given, loader, steps=1, compile=False, **quiet).batch_size == 2
