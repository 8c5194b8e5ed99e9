"""The look at the value of a user's own estimator before a fit: what is wrong is named with its numbers, and nothing that is right is."""

from __future__ import annotations

import math
import warnings
from dataclasses import dataclass

import pytest
import torch

import vbayes as vb
from vbayes.data.dataset import Batch
from vbayes.estimators import ESTIMATORS, check_value
from vbayes.estimators.suits import suits

X = torch.tensor([-0.5, 2.0])  # each datum has a latent of its own
quiet = {"steps": 2, "progress": False, "compile": False, "device": "cpu", "seed": 0}


@dataclass(frozen=True)
class OfPath(vb.Estimator):
    needs = frozenset({"log_p", "log_q"})
    requires = frozenset({"path"})

    def value(self, particles):
        return particles.log_w.mean(0).detach()

    def estimate(self, particles):
        return vb.Estimate(self.value(particles), particles.log_w.mean(0))


class Negative(OfPath):
    def value(self, particles):
        return -super().value(particles)


class WithoutEntropy(OfPath):
    def value(self, particles):
        return particles.log_p.mean(0).detach()


class Noisy(OfPath):
    """Right on average: nothing is wrong with it."""

    def value(self, particles):
        return super().value(particles) + torch.randn(())


class Named(OfPath):
    """What it is nobody knows, and it claims no bound."""

    bound = "something else"
    objective = vb.Objective("something else")

    def value(self, particles):
        return super().value(particles) + 1000.0


@dataclass(frozen=True)
class Several(OfPath):
    num_particles: int = 4
    bound = "IWAE"

    def bound_of(self, log_w):
        return log_w.logsumexp(0) - math.log(len(log_w))

    def value(self, particles):
        return self.bound_of(particles.log_w).detach()


class Summed(Several):
    def value(self, particles):
        return particles.log_w.logsumexp(0).detach()


@dataclass(frozen=True)
class Moving(vb.Averaging):
    """One with a memory, which the look must not change."""

    needs = frozenset({"log_p", "log_q"})
    requires = frozenset({"path"})
    remembers = ("weight", "mean")

    def estimate(self, particles):
        self.recall(mean=particles.log_w.mean().detach())
        return vb.Estimate.of(particles.log_w.mean(0))


@dataclass(frozen=True)
class WithKL(vb.Estimator):
    """Where all KLs have a closed form, `log_q` is 0, and not asked for."""

    needs = frozenset({"log_p", "kl"})
    requires = frozenset({"closed_form_kl"})

    def estimate(self, particles):
        return vb.Estimate.of((particles.log_p - particles.kl).mean(0))


@pytest.mark.parametrize(
    ("method", "says"),
    [(Negative(), "The value of Negative is not the ELBO"), (WithoutEntropy(), "The value of WithoutEntropy is not the ELBO"),
     (Summed(), r"The value of Summed is not its bound_of for 'IWAE', .* 2.773 ± ")],
)  # fmt: skip
def test_a_wrong_value_is_named(method, says):
    with pytest.warns(UserWarning, match=says) as caught:
        vb.fit(vb.pairs.normal_normal(), X, method, **quiet)
    assert len(caught) == 1 and caught[0].filename == __file__
    assert "Fix: return the bound as the value" in str(caught[0].message)


def test_a_comparison_warns_too():
    with pytest.warns(UserWarning, match="The value of Negative is not the ELBO"):
        vb.compare(
            vb.pairs.normal_normal(),
            X,
            {"mine": Negative()},
            at="trajectory",
            steps=2,
            replicas=100,
            compile=False,
            progress=False,
            device="cpu",
        )


@pytest.mark.parametrize("method", [OfPath(), Noisy(), Named(), Several(), Moving()])
def test_nothing_is_said_of_a_right_one(method):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        fit = vb.fit(vb.pairs.normal_normal(), X, method, **quiet)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("vbayes.training.fit.check_value", lambda *given: None)
            alone = vb.fit(vb.pairs.normal_normal(), X, method, **quiet)
    if not isinstance(method, Noisy):  # whose own draws depend on nothing
        assert all(torch.equal(a, alone.pair.parameters[name]) for name, a in fit.pair.parameters.items())


def test_a_closed_form_is_not_counted_twice():
    fit = vb.fit(vb.pairs.normal_normal(), X, OfPath(), **quiet | {"steps": 50, "learning_rate": 0.1})
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        check_value.check_value(fit.pair, Batch((X,)), WithKL())


@pytest.mark.parametrize("name", ESTIMATORS)
def test_every_built_in_estimator_would_pass(name, monkeypatch):
    """If they were taken for a user's own: no false alarms of estimators with control variates, closed forms, biased gradients or other bounds."""
    monkeypatch.setattr(check_value, "_built_in", lambda kind: False)
    method = ESTIMATORS[name]()
    pairs = [(one.pair(), one.batch()) for one in vb.pairs.TRACTABLE.values()]
    able = [(pair, batch) for pair, batch in pairs if suits(pair, batch, method)][:3]
    assert able
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for pair, batch in able:
            check_value.check_value(pair, batch, method)
