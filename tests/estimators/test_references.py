"""Published numbers, and biases of the size that theory gives. (Gradient variances of Pyro's own test model: test_exact_variance.py.)"""

from __future__ import annotations

import math
from dataclasses import dataclass

import pyro
import pyro.distributions as dist
import pytest
import torch

import vbayes as vb
from vbayes.laboratory.replicas import Replicas
from vbayes.staging import draw_noise

pytestmark = pytest.mark.usefixtures("double")
NOWHERE = vb.Batch((torch.zeros(1, dtype=torch.float64),))


def drawn(pair: vb.Pair, estimator: vb.Estimator, batch: vb.Batch, count: int) -> torch.Tensor:
    replicas = Replicas(pair.initialise(batch), estimator, batch, compiled=True)
    with vb.seeded(0):
        noise = draw_noise(replicas.sizes, count, torch.zeros(()))
    return torch.cat(list(replicas.gradients(pair, noise, 0)))


def variance_with_error(values: torch.Tensor) -> tuple[float, float]:
    squared = (values - values.mean()).square()
    return float(squared.mean()), float(squared.std() / len(values) ** 0.5)


@pytest.mark.parametrize(
    ("target", "truth", "score", "rloo"), [(0.45, 0.025, 0.015939, 6.25e-4), (0.499, 5e-4, 0.015625, 2.5e-7)]
)
def test_bernoulli_toy(target, truth, score, rloo):
    for estimator, expected in ((vb.Score(), score), (vb.RLOO(2), rloo)):
        values = drawn(vb.pairs.bernoulli_toy(target), estimator, NOWHERE, 400_000)[:, 0]
        variance, se = variance_with_error(values)
        assert abs(variance - expected) < 4 * se + 5e-7 * (expected > 1e-3)  # the reference has so many digits
        assert abs(values.mean() - truth) < 4 * values.std() / len(values) ** 0.5
    snr = abs(truth) / math.sqrt(rloo)
    assert snr == pytest.approx(1.0, rel=1e-6)


def target_and_guide(mu: float, sigma: float) -> vb.Pair:
    def model(x):
        pyro.sample("z", dist.Normal(2.0, 3.0))

    def guide(x):
        raw = pyro.param("raw", lambda: torch.tensor(sigma).expm1().log())
        pyro.sample("z", dist.Normal(pyro.param("mu", lambda: torch.tensor(mu)), torch.nn.functional.softplus(raw)))

    return vb.Pair(model, guide, name="target")


@pytest.mark.parametrize(
    ("mu", "sigma", "expected"),
    [
        (-3.0, 1.0, {vb.IWAE(10): (0.095, 0.244), vb.DReG(10): (0.639, 1.155)}),
        (1.9, 2.9, {vb.IWAE(10): (0.109, 0.155), vb.DReG(10): (0.00083, 0.0014)}),
    ],
)
def test_which_estimator_wins_depends_on_where_you_are(mu, sigma, expected):
    """Standard deviations of the gradient in μ and in the raw scale, behind a softplus."""
    for estimator, deviations in expected.items():
        pair = target_and_guide(mu, sigma)
        gradients = drawn(pair, estimator, NOWHERE, 200_000)
        at = {name: i for i, name in enumerate(pair.parameters)}
        for name, wanted in zip(("mu", "raw"), deviations, strict=True):
            variance, se = variance_with_error(gradients[:, at[name]])
            deviation = math.sqrt(variance)
            # Four standard errors, and half a unit of the reference's last digit; its own error is not given.
            last = 0.5 * 10.0 ** -len(str(wanted).split(".")[1])
            assert abs(deviation - wanted) < 4 * se / (2 * deviation) + last + 0.005 * wanted


@pytest.mark.parametrize("temperature", [0.2, 0.5, 1.0])
def test_the_bias_of_gumbel_softmax(temperature):
    """E[d/dα (b̂ − t)²] of the relaxation by quadrature over the noise, at σ(α) = ½, where the score part has mean zero."""
    target = 0.45
    u = (torch.arange(200_000) + 0.5) / 200_000
    relaxed = torch.sigmoid(torch.logit(u) / temperature)
    right = float((2 * (relaxed - target) * relaxed * (1 - relaxed) / temperature).mean())
    values = drawn(vb.pairs.bernoulli_toy(target), vb.GumbelSoftmax(temperature=temperature), NOWHERE, 400_000)[:, 0]
    se = float(values.std() / len(values) ** 0.5)
    assert abs(float(values.mean()) - right) < 4 * se
    assert right < 0.025  # the bias is downwards, and grows with the temperature
    if temperature >= 0.5:
        assert 0.025 - right > 5 * se


def test_gumbel_softmax_tends_to_the_truth():
    u = (torch.arange(2_000_000) + 0.5) / 2_000_000
    biases = []
    for temperature in (1.0, 0.5, 0.25, 0.125):
        relaxed = torch.sigmoid(torch.logit(u) / temperature)
        biases.append(0.025 - float((2 * (relaxed - 0.45) * relaxed * (1 - relaxed) / temperature).mean()))
    assert all(later < 0.5 * before for before, later in zip(biases, biases[1:], strict=False))


@dataclass(frozen=True)
class StickyIWAE(vb.Estimator):
    """STL on the bound of several particles."""

    num_particles: int = 2
    bound, unbiased_for, unbiased_in = "IWAE", "IWAE (model)", frozenset({"model"})
    needs = frozenset({"log_p", "log_q", "log_q_fixed"})
    requires = frozenset({"path"})

    def estimate(self, particles):
        v = torch.softmax(particles.log_w.detach(), 0)
        path = particles.log_p - (particles.log_q - particles.log_q_fixed)
        return vb.Estimate(self.bound_of(particles.log_w.detach()), (v * path).sum(0))

    def bound_of(self, log_w):
        return torch.logsumexp(log_w, 0) - math.log(self.num_particles)


def test_stl_on_the_bound_of_several_particles_is_biased_by_the_score_that_it_drops():
    """Bias = E[Σ_k v_k ∇ log q(z_k)], by summation over pairs of nodes."""
    batch = vb.Batch((torch.tensor([-0.5, 2.0]),))
    pair = vb.pairs.normal_normal().initialise(batch)
    with pair.scope():
        table = vb.tabulate(pair, batch)
        leaves = list(pair.leaves.values())
        exact = torch.autograd.grad(table.expected(vb.IWAE(2).bound_of, 2).sum(), leaves, retain_graph=True)
        probability = (table.log_q + table.log_measure).exp().detach()
        v = torch.sigmoid(table.log_w.detach()[:, None] - table.log_w.detach()[None])  # of the first of two
        dropped = 2 * (probability[:, None] * probability[None] * v * table.log_q[:, None]).sum()
        bias = torch.autograd.grad(dropped, leaves)
    right, bias = (torch.cat([g.reshape(-1) for g in gs]) for gs in (exact, bias))
    gradients = drawn(pair, StickyIWAE(), batch, 200_000)
    se = gradients.std(0) / 200_000**0.5
    assert ((gradients.mean(0) - right - bias) / se).abs().max() < 4
    assert (bias / se).abs().min() > 10
