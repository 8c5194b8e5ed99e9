"""Whether latents carry anything of the data: told where their KL is known, and in every verdict."""

from __future__ import annotations

import pyro
import pyro.distributions as dist
import pytest
import torch

import vbayes as vb
from tests.models import binary, schools_by_hand, small_vae
from vbayes.inference.carried import NOTHING, SURE, carried

X = torch.linspace(-1.5, 1.5, 400)
quiet = {"progress": False, "device": "cpu"}


def pair_of(follows: float, used: float) -> vb.Pair:
    """The guide's mean follows x by a factor, so that its KL to the prior is (factor · x)² / 2; the model's mean follows z by another."""

    def model(x):
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", dist.Normal(x.new_zeros(()), 1.0))
            pyro.sample("x", dist.Normal(used * z, 1.0), obs=x)

    def guide(x):
        factor = pyro.param("factor", lambda: torch.tensor(follows))
        with pyro.plate("data", len(x)):
            pyro.sample("z", dist.Normal(factor * x, 1.0))

    return vb.Pair(model, guide)


def look(pair: vb.Pair, x=X):
    batch = vb.Batch((x,) if isinstance(x, torch.Tensor) else x)
    return carried(pair.initialise(batch), batch)


@pytest.mark.parametrize("follows", [0.0, 0.05, 0.3])
def test_it_is_the_kl_to_the_prior(follows):
    found, kl = look(pair_of(follows, 0.0)), float((follows * X).square().mean() / 2)
    assert abs(found.kl - kl) <= 5 * found.se
    assert found.nothing == (follows < 0.1), "0, .0009 and .034 nats"
    assert (found.se == 0) == (follows == 0) and SURE * look(pair_of(0.05, 0.0)).se < NOTHING


def test_what_has_no_such_number_has_none():
    assert look(schools_by_hand(), (torch.zeros(8), torch.ones(8))) is None

    def points(x):
        with pyro.plate("data", len(x)):
            pyro.sample("z", dist.Delta(pyro.param("z_at", lambda: x.clone())))

    assert look(vb.Pair(pair_of(0.0, 0.0).model, points)) is None


def test_every_verdict_says_it():
    pair, x = pair_of(0.0, 0.0), X[::10]
    fit = vb.fit(pair, x, "pathwise", steps=1, learning_rate=1e-6, compile=False, **quiet)
    fit.diagnose(draws=200)
    for words in (fit.verdict(), vb.posterior(pair, x, draws=100).verdict(), fit.posterior(draws=100).verdict()):
        assert (
            "The latents carry no information about the data (posterior collapse)" in words
            and "Use the draws" not in words
        )
        assert "nats per datum" in words and "vb.Beta(beta=1.0, warm_up=1000)" in words
    assert fit.diagnosis.trust == "good" and "good, but the latents carry no information" in repr(fit)
    assert "First train it, vb.fit(pair, data). Known" in vb.diagnose(pair, x, draws=100).verdict()
    assert "carry at most" in repr(fit.diagnosis)


def test_a_guide_that_has_not_found_the_use_of_a_latent_is_told_so_beside_what_its_draws_are_worth():
    words = vb.diagnose(pair_of(0.0, 5.0), X, draws=1000).verdict()
    assert "Use the weighted draws" in words and "The latents carry no information" in words


@pytest.mark.parametrize("pair", [pair_of(0.5, 1.0), small_vae()])
def test_no_alarm_where_there_is_something(pair):
    x = binary(30) if pair.name == "vae" else X
    assert not look(pair, x).nothing and "carry no information" not in vb.diagnose(pair, x, draws=100).verdict()


def test_what_is_advised_can_be_typed():
    fit = vb.fit(small_vae(), binary(20), vb.Beta(beta=1.0, warm_up=1000), epochs=2, compile=False, **quiet)
    assert fit.steps == 2
