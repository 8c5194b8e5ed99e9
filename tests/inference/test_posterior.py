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


@pytest.mark.parametrize("method", ["exact", "importance"])
def test_moments_are_those_of_the_posterior(method):
    """z | x ~ N(x/2, ½), each row by itself."""
    pair, batch = NORMAL.pair(), NORMAL.batch()
    found = vb.posterior(
        pair, *batch.args, draws=1000, method=method, proposals=3000 if method == "importance" else None
    )
    assert len(found) == 1000 and found.draws["z"].shape == (1000, 2)
    worth = 1000 if found.effective is None else float(found.effective.min())
    assert ((found.mean()["z"] - batch.args[0] / 2).abs() < 5 * (0.5 / min(worth, 1000)) ** 0.5).all()
    assert ((found.std()["z"] - 0.5**0.5).abs() < 0.08).all()
    assert ((found.quantile(0.5)["z"] - batch.args[0] / 2).abs() < 0.1).all()


def test_the_guide_is_not_the_posterior_and_says_so():
    pair, batch = NORMAL.pair(), NORMAL.batch()
    far = pair.load({"loc": torch.full((2,), 6.0)})
    found = vb.posterior(far, *batch.args, draws=500, method="guide")
    assert float(found.effective.min()) < 50 and "q is far from it" in found.verdict()
    right = dist.Normal(6.0, pair.parameters["scale"].exp()).log_prob(found.draws["z"])
    torch.testing.assert_close(found.log_density.to(right), right)


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
        (lambda: vb.posterior(NORMAL.pair(), *NORMAL.batch().args, draws=1), "draws=1. Wanted: at least 2"),
        (lambda: vb.posterior(NORMAL.pair()), "data=None"),
        (lambda: vb.posterior(vb.pairs.eight_schools(), vb.data.eight_schools(), method="exact"), "knows no exact posterior"),
    ],
)  # fmt: skip
def test_bad_input(call, message):
    with pytest.raises(vb.errors.BadInput, match=message):
        call()
