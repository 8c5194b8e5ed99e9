"""What tabulation refuses, and what it says."""

from __future__ import annotations

import pyro
import pyro.distributions as dist
import pytest
import torch

import vbayes as vb
from tests.inference.test_tabulate import BATCH, make, positive
from tests.models import X

pytestmark = pytest.mark.usefixtures("double")


def refused(latent, guide_latent, match, error=vb.errors.Unsuitable, batch=BATCH, **options):
    def model(x):
        z = pyro.sample("z", latent())
        pyro.sample("x", dist.Normal(z.sum(), 1.0), obs=x.sum())

    def guide(x):
        pyro.param("unused", lambda: torch.tensor(0.3))
        if guide_latent is not None:
            pyro.sample("z", guide_latent())

    with pytest.raises(error, match=match):
        vb.tabulate(make(model, guide), batch, **options)


def normal(*shape):
    return dist.Normal(torch.zeros(shape), 1.0).to_event(len(shape))


def test_too_many_latents():
    refused(lambda: normal(5), lambda: normal(5), r"would need 39135393 nodes or more: 33 \(z\) × 33")
    refused(lambda: normal(), lambda: normal(), "at most nodes=20", nodes=20)


def test_latents_of_the_model_alone():
    refused(lambda: normal(), None, "Site 'z' of pair 'made' is in the model alone")


def test_latents_that_cannot_be_counted():
    refused(
        lambda: dist.Poisson(2.0), lambda: dist.Poisson(1.5), "Site 'z' is Poisson, whose values can't be enumerated"
    )


def test_support_that_moves():
    def moving():
        return dist.Uniform(0.0, positive("end", 2.0)[0])

    refused(lambda: dist.Uniform(0.0, 5.0), moving, "support of site 'z' depends on parameters")


def test_guides_that_are_not_normalised():
    class TooMuch(dist.Normal):
        def log_prob(self, value):
            return super().log_prob(value) + 0.1

    refused(lambda: normal(), lambda: TooMuch(torch.zeros(()), 1.0), "miss 1.1e-01 of q", vb.errors.BadInput)


def test_densities_without_an_end():
    def model(x):
        z = pyro.sample("z", dist.Normal(torch.zeros(()), 1.0))
        pyro.factor("flat", 0.5 * z**2)

    def guide(x):
        pyro.sample("z", dist.Normal(pyro.param("m", lambda: torch.tensor(0.3)), 1.0))

    with pytest.raises(vb.errors.Unsuitable, match="nodes or more"):
        vb.tabulate(make(model, guide), BATCH)


def test_minibatches():
    with pytest.raises(vb.errors.BadInput, match="was given only a part of its data"):
        vb.tabulate(vb.pairs.normal_normal(), vb.Batch((X,), total=10))
    vb.tabulate(vb.pairs.normal_normal(), vb.Batch((X,), total=2))  # all of them is no part


def test_a_flow_without_an_inverse():
    with vb.seeded(0):
        flow = pyro.distributions.transforms.planar(2)
    refused(
        lambda: normal(2), lambda: dist.TransformedDistribution(dist.Normal(torch.zeros(2), torch.ones(2)), [flow]), "Site 'z' is a flow without an inverse"
    )  # fmt: skip


def test_a_mixture_over_supports_of_its_own():
    ends = dist.Uniform(torch.tensor([0.0, 1.0]), torch.tensor([1.0, 3.0]))
    refused(lambda: ends, lambda: dist.MixtureSameFamily(dist.Categorical(torch.ones(2)), ends), "different supports")
