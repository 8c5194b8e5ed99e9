"""What a guide is, in words, and which one comes after it."""

from __future__ import annotations

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro.infer import autoguide

import vbayes as vb
from vbayes.guides import GUIDES, in_words
from vbayes.guides.richer import NUTS, richer

X = torch.tensor([0.5, 1.5])


def model(x):
    z = pyro.sample("z", dist.Normal(torch.zeros(3), 1.0).to_event(1))
    with pyro.plate("data", len(x)):
        pyro.sample("x", dist.Normal(z.sum(), 1.0), obs=x)


def wide(x):
    z = pyro.sample("z", dist.Normal(torch.zeros(301), 1.0).to_event(1))
    pyro.sample("x", dist.Normal(z.sum(), 1.0).expand([2]).to_event(1), obs=x)


def single(x):
    z = pyro.sample("z", dist.Normal(0.0, 1.0))
    pyro.sample("x", dist.Normal(z, 1.0).expand([2]).to_event(1), obs=x)


def guide_of(made, of=model):
    """After its first call."""
    return vb.Pair(of, made).initialise(vb.Batch((X,))).guide


WORDS = {
    "auto": ("full-rank normal", "guide='flow'"), "point": ("point", "vb.fit(model, data) makes one"), "diagonal": ("mean-field normal", "guide='full'"),
    "low_rank": ("low-rank normal", "guide='full'"), "full": ("full-rank normal", "guide='flow'"), "flow": ("affine-coupling flow", NUTS),
}  # fmt: skip


@pytest.mark.parametrize("word", GUIDES)
def test_of_each_word(word):
    guide = guide_of(word)
    words, then = WORDS[word]
    assert in_words(guide) == words and then in richer(guide)
    assert f"{words}, guide={word!r}" in repr(vb.Pair(model, guide))


@pytest.mark.parametrize(
    ("kind", "then"),
    [
        (autoguide.AutoNormal, "guide='full'"), (autoguide.AutoDiagonalNormal, "guide='full'"), (autoguide.AutoMultivariateNormal, "guide='flow'"),
        (autoguide.AutoLowRankMultivariateNormal, "guide='full'"), (autoguide.AutoDelta, "vb.fit(model, data) makes one"),
    ],
)  # fmt: skip
def test_of_pyros(kind, then):
    guide = guide_of(kind(model))
    assert in_words(guide) == kind.__name__ and then in richer(guide)


@pytest.mark.slow
def test_of_many_latents_and_of_one():
    auto = guide_of("auto", wide)
    assert in_words(auto) == "low-rank normal" and "guide='flow'" in richer(auto)
    assert "guide='low_rank'" in richer(guide_of("diagonal", wide)) and "guide='flow'" in richer(
        guide_of("low_rank", wide)
    )
    assert NUTS in richer(guide_of("auto", single)), "of one latent a flow is a normal"


def test_nobody_knows_what_a_users_own_is():
    assert in_words(lambda x: None) == "" and richer(lambda x: None) == ""


def test_what_auto_has_tried():
    normal, flow = guide_of("auto"), guide_of("flow")
    assert in_words(normal, [("normal", "good")]) == "full-rank normal" and "guide='flow'" in richer(normal, ["normal"])
    tried = [("normal", "bad"), ("flow", "good")]
    assert in_words(flow, tried) == "full-rank normal, then an affine-coupling flow, which is kept"
    assert in_words(normal, [("normal", "bad"), ("flow", "bad")]).endswith(
        "an affine-coupling flow after it was no better"
    )
    failed = [("normal", "bad"), ("flow", "became NaN or infinite")]
    assert in_words(normal, failed).endswith("an affine-coupling flow after it became NaN or infinite")
    assert NUTS in richer(normal, ["normal", "flow"]) and NUTS in richer(flow)


@pytest.mark.slow
def test_what_is_to_be_typed_next_can_be_typed():
    """NUTS as it is named, of a model whose posterior is normal: Σ = (I + 2 · 11ᵀ)⁻¹, E[z_i] = 2/7."""
    with vb.seeded(0):
        typed = {"pyro": pyro, "model": model, "data": (X,)}
        exec(NUTS.replace("1000", "60"), typed)
    draws = typed["mcmc"].get_samples()["z"].sum(-1)
    assert len(draws) == 60 and abs(float(draws.mean()) - 6 / 7) < 5 * (3 / 7) ** 0.5 / 20**0.5
