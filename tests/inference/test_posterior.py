"""Draws of the latents, against posteriors that are known."""

from __future__ import annotations

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro.infer.autoguide import AutoNormal

import vbayes as vb
from tests.models import X
from vbayes.pairs import TRACTABLE

NORMAL = TRACTABLE["normal_normal"]


@pytest.mark.parametrize("method", ["exact", "importance", "psis"])
def test_moments_are_those_of_the_posterior(method):
    """z | x ~ N(x/2, ½), each row by itself."""
    pair, batch = NORMAL.pair(), NORMAL.batch()
    found = vb.posterior(pair, *batch.args, draws=1000, method=method, proposals=None if method == "exact" else 3000)
    assert len(found) == 1000 and found.draws["z"].shape == (1000, 2)
    worth = 1000 if found.effective is None else float(found.effective.min())
    assert ((found.mean()["z"] - batch.args[0] / 2).abs() < 5 * (0.5 / min(worth, 1000)) ** 0.5).all()
    assert ((found.std()["z"] - 0.5**0.5).abs() < 0.08).all()
    assert ((found.quantile(0.5)["z"] - batch.args[0] / 2).abs() < 0.1).all()


def test_the_guide_is_not_the_posterior_and_says_so():
    pair, batch = NORMAL.pair(), NORMAL.batch()
    far = pair.load({"loc": torch.full((2,), 6.0)})
    found = vb.posterior(far, *batch.args, draws=500, method="guide")
    assert float(found.effective.min()) < 50 and "Do not use the draws" in found.verdict()
    right = dist.Normal(6.0, pair.parameters["scale"].exp()).log_prob(found.draws["z"])
    torch.testing.assert_close(found.log_density.to(right), right)


def shifted(shift: float, width: float = 1.0) -> vb.Pair:
    """z | x ~ N(1, ½) under a guide that is so many of its sds off, and so many times as wide."""

    def model(x):
        z = pyro.sample("z", dist.Normal(x.new_zeros(()), 1.0))
        pyro.sample("x", dist.Normal(z, 1.0), obs=x.sum())

    def guide(x):
        sd = 0.5**0.5
        pyro.sample("z", dist.Normal(pyro.param("loc", torch.tensor(1 + shift * sd)), width * sd))

    return vb.Pair(model, guide, name="shifted")


TWO = torch.tensor([2.0])


def test_smoothed_weights_bring_draws_to_the_posterior():
    """And the number that they are said to be worth is that of their mean's noise over seeds: among the draws kept, not among the proposals."""
    found = [vb.posterior(shifted(0.8), TWO, draws=300, method="psis", seed=seed) for seed in range(60)]
    means = torch.stack([one.draws["z"].double().mean() for one in found])
    worth = torch.stack([one.effective for one in found]).mean()
    assert 200 < float(worth) < 300 and found[0].trust == "reweight" and found[0].k_hat < 0.7
    assert abs(float(means.mean()) - 1) < 5 * float(means.std()) / 60**0.5
    assert float(means.var()) == pytest.approx(0.5 / float(worth), rel=0.5)
    assert "resampled by weights" in found[0].verdict() and "different" in found[0].verdict()


@pytest.mark.parametrize("method", ["importance", "psis"])
def test_a_handful_of_draws_that_carry_all_are_said(method):
    found = vb.posterior(shifted(4.5), TWO, draws=500, method=method)
    assert found.different < 100 and float(found.effective) < 60 and found.trust == "bad"
    verdict = found.verdict()
    assert (
        "train it, vb.fit(pair, data)" in verdict and "take more proposals" not in verdict and "method=" not in verdict
    )
    plain = vb.posterior(shifted(4.5), TWO, draws=500, method="guide")
    assert plain.trust == "bad" and "importance" not in plain.verdict() and "psis" not in plain.verdict()


def test_where_weights_help_it_says_so():
    assert "method='psis'" in vb.posterior(shifted(0.0, 2.5), TWO, method="guide").verdict()
    good = vb.posterior(shifted(0.05), TWO, method="guide")
    assert good.trust == "good" and good.k_hat is None and "psis" not in good.verdict()


def test_resampling_keeps_the_latents_of_a_draw_together():
    """Two latents of a datum are taken from the same draw; a mutant that draws for each by itself loses their correlation."""
    known = TRACTABLE["gaussian_chain"]
    pair, batch = known.pair(), known.batch()
    found = vb.posterior(pair, *batch.args, draws=2000, method="importance", proposals=4000)
    names = list(found.draws)
    table = vb.tabulate(pair, batch)
    for row in range(2):
        pairs = torch.stack([found.draws[name][:, row] for name in names])
        ours = torch.corrcoef(pairs)[0, 1]
        assert table.log_p.shape[1] == 2 and abs(float(ours)) > 0.1


def test_an_autoguide_and_arviz():
    def model(x):
        tau = pyro.sample("tau", dist.Gamma(3.0, 1.0))
        with pyro.plate("data", len(x)):
            pyro.sample("x", dist.Normal(0.0, tau), obs=x)

    pair = vb.Pair(model, AutoNormal(model))
    found = vb.posterior(pair, X.float(), draws=50)
    assert found.method == "guide" and set(found.draws) == {"tau"} and (found.draws["tau"] > 0).all()
    assert found.to_arviz()["posterior"]["tau"].shape == (1, 50)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: vb.posterior(NORMAL.pair(), *NORMAL.batch().args, method="magic"), "method='magic'"),
        (lambda: vb.posterior(NORMAL.pair(), *NORMAL.batch().args, draws=1), "draws=1 is below 2. Wanted: an integer of at least 2"),
        (lambda: vb.posterior(NORMAL.pair(), *NORMAL.batch().args, method="psis", proposals=0), "proposals=0"),
        (lambda: vb.posterior(NORMAL.pair()), "data=None"),
        (lambda: vb.posterior(vb.pairs.eight_schools(), vb.data.eight_schools(), method="exact"), "has no exact posterior"),
    ],
)  # fmt: skip
def test_bad_input(call, message):
    with pytest.raises(vb.errors.BadInput, match=message):
        call()
