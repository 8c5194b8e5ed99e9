"""Which part of a guide is wrong: each has one that is, and is told."""

from __future__ import annotations

import pyro
import pyro.distributions as dist
import pytest
import torch
from matplotlib import pyplot

import vbayes as vb
from tests.models import binary, small_vae

N = 40
X = torch.linspace(-2.0, 2.0, N)
PRECISION = 1.0 + N / 1.25  # of θ given all data


def model(x):
    theta = pyro.sample("theta", dist.Normal(x.new_zeros(()), 1.0))
    with pyro.plate("data", len(x)):
        z = pyro.sample("z", dist.Normal(theta, 1.0))
        pyro.sample("x", dist.Normal(z, 0.5), obs=x)


def guided(shared: float = 1.0, few: float = 1.0, all_of: float = 1.0) -> vb.Pair:
    """The posterior, but for the width of θ, that of the first four z, and that of all."""

    def guide(x):
        loc = pyro.param("loc", lambda: x.sum() / 1.25 / PRECISION)
        theta = pyro.sample("theta", dist.Normal(loc, shared * PRECISION**-0.5))
        width = all_of * torch.tensor([few] * 4 + [1.0] * (N - 4))
        with pyro.plate("data", len(x)):
            pyro.sample("z", dist.Normal((theta + 4 * x) / 5, width * 0.2**0.5))

    return vb.Pair(model, guide, name="mixed")


def test_shared_latents_that_are_too_narrow():
    found = vb.diagnose(guided(shared=0.4), X)
    parts = found.parts
    assert found.trust == "bad" == parts.trust and parts.above == 0.0 and parts.open < 0.01
    assert "Of theta, which all data share, the draws by themselves are not to be used" in found.verdict()
    assert "k̂ is 0.7 or above at 0% of 40 data" in found.verdict()


def test_some_data_whose_latents_are_too_narrow():
    found = vb.diagnose(guided(few=0.2), X)
    parts = found.parts
    assert found.trust == "bad" and parts.above == pytest.approx(0.1) and (parts.each.k_hat[:4] > 0.7).all()
    assert "k̂ is 0.7 or above at 10% of 40 data" in found.verdict()
    assert parts.trust != "good", "four inner draws do not mend it"


def test_data_that_are_a_little_off_each_and_too_many_together():
    """Each z_n has weights that can be used; of forty the product can not. Inner draws show that those of θ can, or leave it open."""
    wide = vb.diagnose(guided(all_of=1.35), X)
    assert wide.trust == "bad" and wide.parts.trust == "reweight" and wide.parts.above == 0.0
    assert "Of theta, which all data share, the draws by themselves are good when weighted" in wide.verdict()
    narrow = vb.diagnose(guided(all_of=0.62), X)
    assert narrow.trust == "bad" and narrow.parts.trust is None and narrow.parts.open > 1.0
    assert (
        "can't be determined: with 4 inner draws, the log-weights have a noise of" in narrow.verdict()
        and narrow.parts.above < 0.2
    )


def test_what_is_good_together_is_good_in_parts():
    found = vb.diagnose(guided(), X)
    assert found.trust == "good" == found.parts.trust and found.parts.above == 0.0
    assert "plate" not in found.verdict(), "nothing else need be said"
    figure = found.plot()
    assert len(figure.axes) == 3
    pyplot.close(figure)


def test_latents_of_the_data_alone_in_one_normal():
    """A guide by a word has one vector of all; its data are told apart all the same."""

    def alone(x):
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", dist.Normal(0.0, 1.0))
            pyro.sample("x", dist.StudentT(2.0, z, 0.1), obs=x)

    parts = vb.diagnose(vb.fit(alone, X, guide="diagonal", steps=0, progress=False), draws=200).parts
    assert parts.shared == () and parts.trust is None and len(parts.each) == N
    assert "share" not in parts.verdict()
    assert vb.diagnose(small_vae(), binary(), draws=100).parts is None, "each says it already"
