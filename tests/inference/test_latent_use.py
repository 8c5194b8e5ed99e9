"""KL and activity of dimensions whose use is known."""

from __future__ import annotations

import math

import pyro
import pyro.distributions as dist
import pytest
import torch

import vbayes as vb
from tests.models import binary, small_vae


def test_dimensions_of_known_use():
    """The first follows x, the second has another scale than the prior for all x alike, the third is the prior."""
    x = torch.tensor([-1.0, 0.0, 3.0])

    def model(x):
        pyro.param("unused", torch.tensor(0.0))
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", dist.Normal(torch.zeros(3), 1.0).to_event(1))
            pyro.sample("x", dist.Normal(z[:, 0], 1.0), obs=x)

    def guide(x):
        with pyro.plate("data", len(x)):
            location = torch.stack([x, torch.zeros(3), torch.zeros(3)], -1)
            pyro.sample("z", dist.Normal(location, torch.tensor([1.0, 0.5, 1.0])).to_event(1))

    use = vb.latent_use(vb.Pair(model, guide), x)
    narrow = 0.5 * 0.25 - 0.5 - math.log(0.5)
    assert use.kl.tolist() == pytest.approx([float(x.square().mean()) / 2, narrow, 0.0])
    assert use.variance_of_mean.tolist() == pytest.approx([float(x.var(correction=0)), 0.0, 0.0])
    assert use.active.tolist() == [True, False, False] and use.collapsed.tolist() == [False, False, True]
    assert use.site.tolist() == ["z"] * 3 and use.dimension.tolist() == [0, 1, 2]


@pytest.mark.on_cpu
def test_the_sum_is_the_kl_of_the_elbo():
    fit = vb.fit(small_vae(), binary(20), steps=5, progress=False)
    with fit.pair.scope(), vb.seeded(0):
        particles = vb.draw(fit.pair, vb.Batch((binary(20),)), 1, {"kl", "log_p", "log_q"})
    assert float(vb.latent_use(fit).kl.sum()) == pytest.approx(float(particles.kl.detach().mean()), rel=1e-5)


def test_without_such_a_latent():
    with pytest.raises(vb.errors.Unsuitable, match="no latent in the plate"):
        vb.latent_use(vb.pairs.eight_schools(), vb.data.eight_schools())
    with pytest.raises(vb.errors.BadInput, match="data=None"):
        vb.latent_use(small_vae())
