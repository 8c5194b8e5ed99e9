"""The second look at a guide of which k̂ alone is bad: it clears thin tails, and no mode that a guide has met the foot of."""

from __future__ import annotations

import math

import pyro
import pyro.distributions as dist
import pytest
import torch

import vbayes as vb
from vbayes.diagnostics.wider import wider_look
from vbayes.guides import Flow, Full, starts
from vbayes.guides.curvature import Place
from vbayes.pair.problem import Problem

X = torch.zeros(1)


def beside(model, size: int, width: float = 1.0, guide=Full) -> vb.Fit:
    """A normal around zero, whatever the posterior is."""
    place = Place(torch.zeros(size).double(), width * torch.eye(size).double(), math.nan, math.nan)
    return vb.fit(vb.Pair(model, guide(model, start=starts.at(place))), X, steps=0, progress=False, device="cpu")


def looked(fit: vb.Fit, seed: int = 0):
    problem = Problem.of(fit)
    return wider_look(problem.pair, problem.whole, seed)


def two_modes(size: int, share: float, away: float):
    """A standard normal, and a part of the mass in another one that is some sds away in one direction."""

    def model(x):
        z = pyro.sample("z", dist.Normal(torch.zeros(size), 1.0).to_event(1))
        pyro.factor("other", torch.logaddexp(torch.tensor(1 - share).log(), math.log(share) + away * (z[0] - away / 2)))

    return model


def thin(freedom: float):
    def model(x):
        pyro.sample("z", dist.StudentT(freedom, torch.zeros(1), 1.0).to_event(1))

    return model


@pytest.mark.parametrize("seed", [1, 3])
def test_tails_that_hardly_matter_are_cleared(seed):
    """A t with eight degrees of freedom beside the normal with its moments: k̂ is above one, a twentieth of the mass is elsewhere."""
    found = vb.diagnose(beside(thin(8.0), 1, (8 / 6) ** 0.5), X, seed=seed)
    assert found.k_hat > 0.7 and found.trust == "good" and found.wider.clears
    grid = torch.linspace(-30.0, 30.0, 60_001, dtype=torch.float64)
    normal, t = (fn.log_prob(grid).exp() for fn in (dist.Normal(0.0, (8 / 6) ** 0.5), dist.StudentT(8.0)))
    assert found.wider.misplaced == pytest.approx(float((normal - t).abs().sum()) * 1e-3 / 2, abs=0.01)
    assert "The large k̂ comes from rare draws in the tails" in found.verdict() and "Use the draws." in found.verdict()


@pytest.mark.parametrize(
    ("size", "share", "away"), [(1, 0.07, 6.0), (1, 0.3, 8.0), (10, 0.07, 5.0), (30, 0.1, 6.0), (30, 0.3, 7.0), (100, 0.3, 7.0)]
)  # fmt: skip
def test_a_mode_that_is_missed_is_not(size, share, away):
    fit = beside(two_modes(size, share, away), size)
    for seed in range(2):
        assert not looked(fit, seed).clears


def test_tails_that_matter_are_not():
    assert not looked(beside(thin(2.2), 1)).clears
    assert not looked(beside(thin(3.0), 1, 0.5)).clears


@pytest.mark.parametrize("guide", [Full, Flow])
def test_the_posterior_itself_has_nothing_elsewhere(guide):
    """p/r is then q/r, which is at most 2, for r is half q."""
    fit = beside(lambda x: pyro.sample("z", dist.Normal(torch.zeros(3), 1.0).to_event(1)), 3, guide=guide)
    found = looked(fit)
    assert found.clears and found.heaviest < 2.1 and found.misplaced < 0.01 and found.reached == 1.0
    assert found.effective > 0.4 * found.draws


def test_guides_of_which_the_noise_is_not_known_have_none():
    fit = beside(thin(8.0), 1, (8 / 6) ** 0.5)
    by_hand = vb.Pair(
        fit.pair.model, lambda x: pyro.sample("z", dist.Normal(pyro.param("m", torch.zeros(1)), 1.0).to_event(1))
    )
    problem = Problem.of(by_hand, X)
    assert wider_look(problem.pair, problem.whole, 0) is None
