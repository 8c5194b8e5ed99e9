"""Latents of rows whose group is new: what draws them, and the row itself, know of one draw of that group."""

from __future__ import annotations

import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch

import vbayes as vb
from tests.inference.trained import DRAWS, right, trained

HELD = torch.tensor([5.0, 6.0, 7.0, 8.0])  # groups of the fit, far from those of their population, N(0, 2)
DATA = {"g": torch.arange(4).repeat(3), "y": torch.arange(12.0)}
NEW = {"g": torch.tensor([1, 9, 9]), "y": torch.zeros(3)}


def groups(g, grown):
    with pyro.plate("groups", int(g.max()) + 1 if grown else 4):
        return pyro.sample("a", dist.Normal(0.0, 2.0))


def of_the_fit(g, y=None):
    with pyro.plate("groups", 4):
        return pyro.sample("a", dist.Normal(HELD, 0.5))


@pytest.mark.parametrize("grown", [False, True])
def test_of_an_amortised_guide(grown):
    """z ~ N(a[g], 1) in the model, N(a[g], ½) by the guide: in closed form z − a has sd ½, whichever group, and z of a new one ~ N(0, 2² + ¼)."""

    def model(g, y=None):
        a = groups(g, grown)
        with pyro.plate("data", len(g)):
            z = pyro.sample("z", dist.Normal(a[g], 1.0))
            pyro.deterministic("off", z - a[g])
            pyro.sample("y", dist.Normal(z, 0.1), obs=y)

    def guide(g, y=None):
        a = of_the_fit(g)
        with pyro.plate("data", len(g)):
            pyro.sample("z", dist.Normal(a[g], 0.5))

    found = vb.predict(trained(model, guide, DATA), NEW, draws=DRAWS)
    assert found.latents["z"].startswith("drawn by the guide") and found.new_groups == {"g": ("9",)}
    right(found["off"], 0.0, 0.5)
    right(found["y"], [6.0, 0.0, 0.0], np.array([0.51, 4.26, 4.26]) ** 0.5)
    assert abs(np.corrcoef(found["y"][:, 1], found["y"][:, 2])[0, 1] - 4 / 4.26) < 5 * 0.13 / DRAWS**0.5


def test_of_a_guide_that_knows_the_groups_by_their_numbers():
    """It has a number for each group of the fit, and none for another: the model draws the rows then."""

    def model(g, y=None):
        a = groups(g, False)
        with pyro.plate("data", len(g)):
            z = pyro.sample("z", dist.Normal(a[g], 1.0))
            pyro.sample("y", dist.Normal(z, 0.1), obs=y)

    def guide(g, y=None):
        of_the_fit(g)
        with pyro.plate("data", len(g)):
            pyro.sample("z", dist.Normal(HELD[g], 0.5))

    fit = trained(model, guide, DATA)
    found = vb.predict(fit, NEW, draws=DRAWS)
    assert found.latents["z"].startswith("drawn from the model")
    right(found["y"], [6.0, 0.0, 0.0], np.array([1.26, 5.01, 5.01]) ** 0.5)
    known = vb.predict(fit, {"g": torch.tensor([1]), "y": torch.zeros(1)}, draws=10)
    assert known.latents["z"].startswith("drawn by the guide")


@pytest.mark.parametrize(("grown", "draws"), [(False, DRAWS), pytest.param(True, 100, marks=pytest.mark.slow)])
def test_of_sites_that_are_summed_out(grown, draws):
    """y = 0 ~ N(a + k, .01), k = ±1: k is minus the sign of a, so that a k = −|a|, whose mean of a new group is −2 √(2/π) and whose sd 2 √(1 − 2/π)."""

    def model(g, y=None):
        a = groups(g, grown)
        with pyro.plate("data", len(g)):
            k = pyro.sample("k", dist.Categorical(torch.ones(2) / 2), infer={"enumerate": "parallel"})
            pyro.deterministic("product", a[g] * (2 * k - 1))
            pyro.sample("y", dist.Normal(a[g] + 2 * k - 1, 0.01), obs=y)

    found = vb.predict(trained(model, of_the_fit, DATA), NEW, draws=draws)
    assert found.latents["k"].startswith("drawn from its conditional")
    right(found["product"][:, 1:], -2 * (2 / np.pi) ** 0.5, 2 * (1 - 2 / np.pi) ** 0.5)
