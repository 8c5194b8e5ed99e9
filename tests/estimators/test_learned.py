"""An estimator with a module and a loss of its own: it learns in every engine, and what it has learned is the fit's."""

from __future__ import annotations

from dataclasses import dataclass

import pyro
import pytest
import torch
from torch import nn

import vbayes as vb
from vbayes.estimators.learned import Learned
from vbayes.estimators.remembering import remembered
from vbayes.pairs import TRACTABLE


class Level(nn.Module):
    """A number for each datum."""

    def __init__(self, rows):
        super().__init__()
        self.level = nn.Parameter(torch.zeros(rows))


@dataclass(frozen=True)
class LearnedBaseline(Learned):
    """The score function less a learned baseline, which follows the mean of log w by squares."""

    needs = frozenset({"log_p_fixed", "log_q_fixed", "score"})

    def module(self, particles):
        return Level(particles.local)

    def estimate(self, particles):
        value = (particles.log_p_fixed - particles.log_q_fixed).detach()
        left = value - self.network.level
        surrogate = particles.log_p_fixed + left.detach() * particles.score
        return vb.Estimate(value.mean(0), surrogate.mean(0), auxiliary=left.square().mean(0))


PAIR = TRACTABLE["three_bernoulli"]


@pytest.mark.parametrize(("compile", "steps"), [(False, 10), pytest.param(True, 200, marks=pytest.mark.slow)])
def test_it_learns_by_its_own_loss(compile, steps, tmp_path):
    """To the expectation of log w, which the table has; and what was saved goes on to the last bit."""
    pair, x = PAIR.pair(), PAIR.batch().args[0]
    options = {"learning_rate": 1e-9, "compile": compile, "progress": False}
    method = LearnedBaseline(4, rate=0.05)
    half = vb.fit(pair, x, method, steps=steps, **options)
    whole = half.resume(steps=steps, progress=False)
    level = remembered(whole.estimator, whole.pair)["network.level"]
    with pair.scope():
        right = vb.tabulate(pair, PAIR.batch()).elbo()
    if compile:
        torch.testing.assert_close(level, right, rtol=0.0, atol=0.4)  # Adam at this rate is about as near
    loaded = vb.Fit.load(half.save(tmp_path / "half.safetensors"), PAIR.pair(), x, estimator=method)
    again = loaded.resume(steps=steps, progress=False)
    assert torch.equal(level, remembered(again.estimator, again.pair)["network.level"])
    assert not method.memory.begun  # the caller's is its own


def test_a_look_at_the_value_teaches_nothing():
    pyro.clear_param_store()
    pair, x, method = PAIR.pair(), PAIR.batch().args[0], LearnedBaseline()
    with pair.scope(), vb.seeded(0):
        method.loss(pair.model, pair.guide, x)
        assert method.memory.steps == 0 and method.network.level.tolist() == [0.0, 0.0]
        method.loss_and_grads(pair.model, pair.guide, x)
        assert method.memory.steps == 1 and (method.network.level != 0).all()


@pytest.mark.slow
def test_it_is_without_bias():
    check = vb.check_estimator(LearnedBaseline(), ["three_bernoulli", "normal_normal"], progress=False)
    assert check.ok, check.verdict()
