"""The built-in pairs are what their docstrings say."""

from __future__ import annotations

import pyro.distributions as dist
import pytest
import torch

import vbayes as vb
from tests.models import binary
from vbayes.pairs import PAIRS
from vbayes.pairs.vae import networks


def scored(pair: vb.Pair, args) -> tuple[torch.Tensor, torch.Tensor]:
    """log p and log q of one draw, per datum."""
    batch = vb.Batch(args)
    pair.initialise(batch)
    with pair.scope(), vb.seeded(7), torch.no_grad():
        particles = vb.draw(pair, batch, 1, {"log_p", "log_q"})
    return particles.log_p[0], particles.log_q[0]


@pytest.mark.usefixtures("double")
def test_vae_is_kingma_and_wellings():
    """Its analytic-KL ELBO is their eq. 10, written out by hand."""
    x = binary(5).double()
    pair = vb.pairs.vae(6, 5, 2, seed=3)
    encoder, decoder = networks(6, 5, 2, output="bernoulli", seed=3)
    with pair.initialise(vb.Batch((x,))).scope(), vb.seeded(0):
        value = -vb.AnalyticKL().loss(pair.model, pair.guide, x)
    with vb.seeded(0):
        noise = torch.randn(5, 2)
    h = torch.tanh(encoder.hidden(x))
    mu, log_variance = encoder.location(h), encoder.log_variance(h)
    z = mu + torch.exp(log_variance / 2) * noise
    y = torch.sigmoid(decoder.mean(torch.tanh(decoder.hidden(z))))
    minus_kl = 0.5 * (1 + log_variance - mu**2 - log_variance.exp()).sum()
    likelihood = (x * y.log() + (1 - x) * (1 - y).log()).sum()
    assert value == pytest.approx((minus_kl + likelihood).item(), rel=1e-10)


@pytest.mark.usefixtures("double")
def test_gaussian_output():
    """Appendix C.2, with the mean through a sigmoid."""
    x = torch.linspace(0, 1, 12).reshape(2, 6)
    _, decoder = networks(6, 5, 2, output="gaussian", seed=0)
    z = torch.tensor([[0.3, -1.0], [2.0, 0.1]])
    h = torch.tanh(decoder.hidden(z))
    expected = dist.Normal(torch.sigmoid(decoder.mean(h)), (decoder.log_variance(h) / 2).exp()).log_prob(x).sum(-1)
    torch.testing.assert_close(decoder(z).log_prob(x), expected)


def test_the_baselines_share_the_generative_model():
    """Same seed, same p(x, z): monte_carlo has the same q too, and mean_field begins at the prior."""
    x = binary(5)
    log_p, log_q = scored(vb.pairs.vae(6, 5, 2, seed=4), (x,))
    same_p, same_q = scored(vb.pairs.monte_carlo(6, 5, 2, seed=4), (x,))
    torch.testing.assert_close(log_p, same_p)
    torch.testing.assert_close(log_q, same_q)
    rows = torch.arange(5)
    vae, factored = vb.pairs.vae(6, 5, 2, seed=4), vb.pairs.mean_field(6, 5, 2, rows=5, seed=4)
    scored(vae, (x,)), scored(factored, (x, rows))
    decoder = {k: v for k, v in vae.parameters.items() if "decoder" in k}
    assert len(decoder) == 4 and all(torch.equal(v, factored.parameters[k]) for k, v in decoder.items())
    _, log_q = scored(factored, (x, rows))
    with vb.seeded(7):
        z = torch.randn(5, 2)
    torch.testing.assert_close(log_q, dist.Normal(0.0, 1.0).log_prob(z).sum(-1))


def test_seeds_and_defaults():
    x = binary(5)
    assert not torch.equal(
        scored(vb.pairs.vae(6, 5, 2, seed=0), (x,))[0], scored(vb.pairs.vae(6, 5, 2, seed=1), (x,))[0]
    )
    assert scored(vb.pairs.vae(), (torch.zeros(3, 64),))[0].shape == (3,)


def test_recipes_fit_their_pair_to_the_data():
    grey = vb.Dataset({"x": torch.rand(4, 10, generator=torch.Generator().manual_seed(0))}, support="unit")
    pair = PAIRS["vae"].pair(grey)
    pair.initialise(grey.batch(pair.model))
    assert pair.parameters["decoder$$$log_variance.weight"].shape == (10, 128)  # a Gaussian, for grey pictures
    rows = PAIRS["mean_field"].pair(vb.Dataset({"x": binary(9)}, support="binary"))
    batch = vb.Dataset({"x": binary(9)}).batch(rows.model)
    assert rows.initialise(batch).parameters["location"].shape == (9, 5)
    for name, recipe in PAIRS.items():
        data = vb.data.DATASETS[recipe.data]()
        assert vb.fit(recipe.pair(data), data, steps=1, batch_size=recipe.batch_size, progress=False).pair.name == name
        assert recipe.summary.endswith(".")


def test_bad_sizes():
    with pytest.raises(vb.errors.BadInput, match="latent=0 is below 1"):
        vb.pairs.vae(latent=0)
