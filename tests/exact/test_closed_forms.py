"""Closed forms, against others' code, against counting out, and against each other."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from scipy import stats
from torch.distributions import MultivariateNormal, kl_divergence

from vbayes.exact import beta_bernoulli, gamma_poisson, hidden_markov
from vbayes.exact.linear_gaussian import LinearGaussian, mean_field

pytestmark = pytest.mark.usefixtures("double")


def t(*numbers) -> torch.Tensor:
    return torch.tensor(numbers)


def test_beta_bernoulli():
    x, a, b = t([1.0, 1, 0, 1, 0], [0.0, 0, 0, 1, 0]), torch.tensor(1.5), torch.tensor(2.0)
    in_any_order = stats.betabinom.logpmf([3, 1], 5, 1.5, 2.0)
    in_this_order = torch.tensor(in_any_order) - t(math.log(math.comb(5, 3)), math.log(5))
    torch.testing.assert_close(beta_bernoulli.log_evidence(x, a, b), in_this_order)
    best = beta_bernoulli.posterior(x, a, b)
    torch.testing.assert_close(beta_bernoulli.elbo(x, a, b, best), in_this_order)
    other = torch.distributions.Beta(t(2.0, 3.0), t(1.0, 0.7))
    gap = in_this_order - beta_bernoulli.elbo(x, a, b, other)
    torch.testing.assert_close(gap, kl_divergence(other, best))


def test_gamma_poisson():
    x, a, b = t([3.0], [0.0]), torch.tensor(2.0), torch.tensor(0.8)
    right = torch.tensor(stats.nbinom.logpmf([3, 0], 2.0, 0.8 / 1.8))
    torch.testing.assert_close(gamma_poisson.log_evidence(x, a, b), right)
    several = t([3.0, 1.0], [0.0, 2.0])
    # The second count, after the first has been learnt from.
    first = gamma_poisson.log_evidence(several[:, :1], a, b)
    known = gamma_poisson.posterior(several[:, :1], a, b)
    second = [gamma_poisson.log_evidence(several[i : i + 1, 1:], known.concentration[i], known.rate[i]) for i in (0, 1)]
    torch.testing.assert_close(gamma_poisson.log_evidence(several, a, b), first + torch.cat(second))
    best = gamma_poisson.posterior(several, a, b)
    torch.testing.assert_close(gamma_poisson.elbo(several, a, b, best), gamma_poisson.log_evidence(several, a, b))
    other = torch.distributions.Gamma(t(2.5, 1.2), t(1.0, 2.0))
    gap = gamma_poisson.log_evidence(several, a, b) - gamma_poisson.elbo(several, a, b, other)
    torch.testing.assert_close(gap, kl_divergence(other, best))


def linear() -> LinearGaussian:
    weight = t([0.8, -0.3], [0.5, 1.1], [-0.9, 0.4])
    return LinearGaussian(
        t(0.3, -0.2), t([1.2, 0.3], [0.3, 0.7]), weight, t(0.1, 0.0, -0.4), torch.diag(t(0.5, 0.8, 0.3))
    )


def test_linear_gaussian():
    model, x = linear(), t([0.9, -0.4, 0.3], [-1.2, 0.8, 0.5])
    spread = model.weight @ model.covariance @ model.weight.T + model.noise
    right = stats.multivariate_normal.logpdf(x.numpy(), (model.weight @ model.mean + model.offset).numpy(), spread)
    torch.testing.assert_close(model.log_evidence(x), torch.tensor(right))
    best = model.posterior(x)
    torch.testing.assert_close(model.elbo(x, best), model.log_evidence(x))
    # Bayes' rule at an arbitrary point.
    z = t(0.4, -1.3)
    prior = MultivariateNormal(model.mean, model.covariance).log_prob(z)
    likelihood = MultivariateNormal(model.weight @ z + model.offset, model.noise).log_prob(x)
    torch.testing.assert_close(best.log_prob(z), prior + likelihood - model.log_evidence(x))
    other = MultivariateNormal(t(0.2, 0.5), t([0.5, -0.1], [-0.1, 0.9]))
    gap = model.log_evidence(x) - model.elbo(x, other)
    torch.testing.assert_close(gap, kl_divergence(other.expand([2]), best))


def test_mean_field():
    precision = t([2.0, 0.9, 0.3], [0.9, 1.5, -0.4], [0.3, -0.4, 1.1])
    variances, gap = mean_field(precision)
    p = MultivariateNormal(torch.zeros(3), precision_matrix=precision)
    log_sd = (0.5 * variances.log()).requires_grad_()
    kl = kl_divergence(MultivariateNormal(torch.zeros(3), scale_tril=log_sd.exp().diag()), p)
    torch.testing.assert_close(kl.detach(), gap)
    (gradient,) = torch.autograd.grad(kl, log_sd)
    assert gradient.abs().max() < 1e-12  # the best there is
    assert (variances < p.variance).all()  # too small


def test_hidden_markov():
    initial, transition = t(0.3, 0.7).log(), t([0.6, 0.4], [0.1, 0.9]).log()
    emission = torch.linspace(-2.0, 1.0, 12).sin().reshape(2, 3, 2)
    log_q = torch.linspace(-1.0, 2.0, 12).cos().reshape(2, 3, 2).log_softmax(-1)
    joint, q = [], []
    for a, b, c in itertools.product(range(2), repeat=3):
        seen = emission[:, 0, a] + emission[:, 1, b] + emission[:, 2, c]
        joint.append(initial[a] + transition[a, b] + transition[b, c] + seen)
        q.append(log_q[:, 0, a] + log_q[:, 1, b] + log_q[:, 2, c])
    p, log_g = torch.stack(joint), torch.stack(q)
    torch.testing.assert_close(hidden_markov.log_evidence(initial, transition, emission), p.logsumexp(0))
    torch.testing.assert_close(
        hidden_markov.elbo(initial, transition, emission, log_q), (log_g.exp() * (p - log_g)).sum(0)
    )
    second_is_one = p.softmax(0)[[2, 3, 6, 7]].sum(0)
    torch.testing.assert_close(hidden_markov.marginals(initial, transition, emission)[:, 1, 1], second_is_one)
