"""Every estimator on every pair with known answers: its value and gradient have the mean that it claims.

The answer is the exact expectation of the bound that the estimator says it estimates, over all tuples of values of the
latents. An estimator that is added to `vb.ESTIMATORS` stands here by itself, with as few particles as it can have.
"""

from __future__ import annotations

import pytest
import torch

import vbayes as vb
from tests.contract.cases import CASES, ROUNDING, drawn, limit, moved, smallest, suits, truth, unbiased_in, z
from vbayes.estimator import Estimate
from vbayes.pairs import TRACTABLE
from vbayes.particles import Particles

pytestmark = pytest.mark.usefixtures("double", "one_thread")


def check(name: str, pair_name: str, replicas: int, mutation: float) -> None:
    estimator = smallest(name)
    right, m = truth(estimator, pair_name), drawn(name, pair_name, replicas)
    coordinates = right.coordinates(unbiased_in(estimator))
    far = limit(len(coordinates) + 1)
    length = float(right.gradient[coordinates].norm()) if coordinates else 0.0
    rounding = ROUNDING * max(1.0, length)
    for i in coordinates:
        exact = right.gradient[i]
        assert z(m, i, exact, rounding) < far, f"{right.names[i]}, coordinate {i}: mean {m.mean[i]}, wanted {exact}"
        # The mutant: were the gradient off by some of its length, it would show.
        assert z(m, i, exact + mutation * length, rounding) > far, f"{right.names[i]}: too noisy to tell"
    last = len(right.gradient)
    assert z(m, last, right.value, rounding) < far, f"value: mean {m.mean[last]}, wanted {right.value}"
    assert z(m, last, (1 + mutation) * right.value, rounding) > far


@pytest.mark.parametrize(("name", "pair_name"), CASES)
def test_mean_of_gradient_and_value(name, pair_name):
    check(name, pair_name, 100_000, 0.1)


@pytest.mark.slow
@pytest.mark.parametrize(("name", "pair_name"), CASES)
def test_mean_of_gradient_and_value_sharply(name, pair_name):
    check(name, pair_name, 1_000_000, 0.03)


@pytest.mark.parametrize(("name", "pair_name"), CASES)
def test_gradient_is_finite_and_reaches_every_parameter(name, pair_name):
    right, m = truth(smallest(name), pair_name), drawn(name, pair_name, 100_000)
    assert torch.isfinite(m.sums).all() and torch.isfinite(m.squares).all()
    wanted = {n for n, g in zip(right.names, right.gradient.tolist(), strict=True) if g != 0.0}
    reached = {n for n, g in zip(right.names, m.sums[:, :-1].abs().sum(0).tolist(), strict=True) if g != 0.0}
    assert wanted == set(right.names)  # a pair with an idle parameter would be no test
    assert wanted <= reached


@pytest.mark.parametrize(("name", "pair_name"), CASES)
def test_shapes(name, pair_name):
    estimator, pair, batch = smallest(name), moved(pair_name), TRACTABLE[pair_name].batch()
    with pair.scope(), vb.seeded(0):
        particles = vb.draw(pair, batch, estimator.num_particles, estimator.needs)
        estimate = estimator.estimate(particles)
    # What Pyro sums over the data itself comes without them.
    local = () if getattr(particles, "enumerated", None) is not None else (len(batch.args[0]),)
    assert estimate.value.shape == estimate.surrogate.shape == local
    assert not estimate.value.requires_grad and estimate.surrogate.requires_grad


@pytest.mark.parametrize("name", vb.ESTIMATORS)
def test_every_estimator_has_a_pair(name):
    assert any(suits(name, pair_name) for pair_name in TRACTABLE)


@pytest.mark.parametrize("pair_name", TRACTABLE)
def test_every_pair_has_parameters_of_known_parts(pair_name):
    parts = {p for p in truth(vb.Trace(), pair_name).parts}
    shared = {"linear_gaussian": {"model and guide", "guide"}}
    without_model = {"normal_normal", "beta_bernoulli", "bernoulli_toy"}
    assert parts == shared.get(pair_name, {"guide"} if pair_name in without_model else {"guide", "model"})


# ---- mutants: estimators that are wrong, and must not pass ---------------------------------------------------------


class NoModel(vb.Score):
    """Forgets the model's own gradient."""

    def estimate(self, particles: Particles) -> Estimate:
        value = (particles.log_p_fixed - particles.log_q_fixed).detach()
        return Estimate(value.mean(0), (value * particles.score).mean(0))


class OwnBaseline(vb.RLOO):
    """Takes off the mean of all particles, its own among them."""

    def estimate(self, particles: Particles) -> Estimate:
        value = (particles.log_p_fixed - particles.log_q_fixed).detach()
        return Estimate(value.mean(0), (particles.log_p_fixed + (value - value.mean(0)) * particles.score).mean(0))


class NoEntropy(vb.STL):
    """Holds all of log q constant, so that nothing keeps q wide."""

    def estimate(self, particles: Particles) -> Estimate:
        return Estimate(particles.log_w.detach().mean(0), (particles.log_p - particles.log_q.detach()).mean(0))


class Shifted(vb.Pathwise):
    """Right in its gradient, and a twentieth of a nat too high in its value."""

    def estimate(self, particles: Particles) -> Estimate:
        surrogate = particles.log_w.mean(0)
        return Estimate(surrogate.detach() + 0.05, surrogate)


@pytest.mark.parametrize(
    ("mutant", "pair_name"),
    [
        (NoModel, "gaussian_chain"),
        (NoModel, "discrete_chain"),
        (OwnBaseline, "three_bernoulli"),
        (OwnBaseline, "gaussian_mixture"),
        (NoEntropy, "linear_gaussian"),
        (NoEntropy, "gamma_poisson"),
        (Shifted, "normal_normal"),
    ],
)
def test_wrong_estimators_do_not_pass(monkeypatch, mutant, pair_name):
    monkeypatch.setitem(vb.ESTIMATORS, mutant.__name__, mutant)
    with pytest.raises(AssertionError, match="wanted"):
        check(mutant.__name__, pair_name, 100_000, 0.1)
