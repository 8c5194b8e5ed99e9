"""A guide that scales its log-density, as for an annealed KL: it can be trained and drawn from, but has no importance weights."""

from __future__ import annotations

import pyro
import pyro.distributions as dist
import pytest
import torch

import vbayes as vb
from vbayes.pair.tempered import tempered_of

X = torch.linspace(-1.5, 2.5, 20)
EVIDENCE = float(dist.Normal(0.0, 1.25**0.5).log_prob(X).sum())
quiet = {"progress": False, "device": "cpu"}


def annealed(beta, whole=1.0) -> vb.Pair:
    """z ~ N(0, 1), x ~ N(z, ½); q is the posterior, with its KL weighted by beta, and everything by `whole`."""

    def model(x):
        with pyro.poutine.scale(scale=whole), pyro.plate("data", len(x)):
            with pyro.poutine.scale(scale=beta):
                z = pyro.sample("z", dist.Normal(0.0, 1.0))
            pyro.sample("x", dist.Normal(z, 0.5), obs=x)

    def guide(x):
        slope = pyro.param("slope", torch.tensor(0.8))
        with pyro.poutine.scale(scale=whole), pyro.plate("data", len(x)), pyro.poutine.scale(scale=beta):
            pyro.sample("z", dist.Normal(slope * x, 0.2**0.5))

    return vb.Pair(model, guide, name="annealed")


@pytest.mark.parametrize("beta", [0.1, torch.tensor(0.1), torch.linspace(0.1, 1.0, 20)])
@pytest.mark.parametrize(
    "ask",
    [
        lambda pair: vb.log_evidence(pair, X, **quiet),
        lambda pair: vb.log_evidence(pair, X, method="elbo", **quiet),
        lambda pair: vb.log_evidence(pair, X, method="ais", temperatures=5, **quiet),
        lambda pair: vb.diagnose(pair, X, device="cpu"),
        lambda pair: vb.posterior(pair, X, method="psis", device="cpu"),
    ],
    ids=["evidence", "elbo", "ais", "diagnose", "psis"],
)
def test_weights_are_refused(ask, beta):
    """The value used to be called a lower bound on log p(x), and lay far above it."""
    with pytest.raises(vb.errors.Unsuitable, match=r"scales the log-density of 'z' by 0\.1 .*Fix: set it to 1"):
        ask(annealed(beta))


def test_its_draws_may_be_had_and_are_not_judged():
    fit = vb.fit(annealed(0.1), X, steps=2, progress=False)
    found = fit.posterior(draws=50)
    assert found.draws["z"].shape == (50, 20)
    assert found.effective is None
    assert found.verdict().startswith("50 draws from q. How far it is from the posterior is not known")
    assert "worth" not in str(found)


@pytest.mark.parametrize("whole", [1.0, 0.05])
def test_a_factor_of_the_whole_loss_leaves_the_weights_alone(whole):
    """As for a loss per datum. The evidence used to be that of the scaled loss."""
    pair = annealed(1.0, whole)
    assert vb.log_evidence(pair, X, **quiet).value == pytest.approx(EVIDENCE, abs=1e-3)
    assert vb.log_evidence(pair, X, method="elbo", **quiet).value == pytest.approx(EVIDENCE, abs=1e-3)
    assert vb.diagnose(pair, X, draws=500, device="cpu").trust == "good"


def test_plates_scale_too():
    def half(y):
        with pyro.plate("data", 40, subsample=torch.arange(20)):
            z = pyro.sample("z", dist.Normal(0.0, 1.0))
            if y is not None:
                pyro.sample("y", dist.Normal(z, 0.5), obs=y)

    assert not tempered_of(vb.Pair(half, lambda y: half(None)), vb.Batch((X,)))
    assert not tempered_of(annealed(1.0, 0.3), vb.Batch((X,)))
    assert tempered_of(annealed(0.3), vb.Batch((X,))) == {"z": pytest.approx(0.3)}
