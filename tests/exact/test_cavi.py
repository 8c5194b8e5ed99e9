"""Coordinate ascent against closed forms, scikit-learn, and draws."""

from __future__ import annotations

import math

import pytest
import torch
from sklearn.mixture import BayesianGaussianMixture
from torch.distributions import Categorical, Dirichlet, Gamma, MultivariateNormal, Normal, Wishart

import vbayes as vb

GENERATOR = torch.Generator().manual_seed(0)
X = torch.randn(40, generator=GENERATOR, dtype=torch.float64) * 2 + 3
CENTRES = torch.tensor([[-4.0, 0.0], [0.0, 3.0], [4.0, -1.0]], dtype=torch.float64)
CLOUD = CENTRES.repeat_interleave(30, 0) + torch.randn(90, 2, generator=GENERATOR, dtype=torch.float64)
QUIET = {"progress": False}


def precision(correlation: float) -> torch.Tensor:
    return torch.linalg.inv(torch.tensor([[1.0, correlation], [correlation, 1.0]], dtype=torch.float64))


@pytest.mark.parametrize("correlation", [0.0, 0.5, 0.99])
def test_a_factored_gaussian_has_the_means_and_too_small_variances(correlation):
    target = vb.conjugate.FactoredGaussian(torch.tensor([1.0, -2.0], dtype=torch.float64), precision(correlation))
    found = vb.cavi(target, tolerance=1e-15, sweeps=10_000, **QUIET)
    torch.testing.assert_close(found.q, target.mean, rtol=0, atol=1e-5)
    torch.testing.assert_close(target.variances, torch.full((2,), 1 - correlation**2, dtype=torch.float64))
    kl = torch.distributions.kl_divergence(
        MultivariateNormal(found.q, target.variances.diag()), MultivariateNormal(target.mean, precision_matrix=target.precision)
    )  # fmt: skip
    assert found.elbo == pytest.approx(-float(kl), abs=1e-8) and found.converged
    assert found.elbo == pytest.approx(0.5 * math.log(1 - correlation**2), abs=1e-8)


def test_a_factored_normal_gamma_against_draws_and_the_exact_evidence():
    model = vb.conjugate.NormalGamma(X, location=1.0, strength=0.5, shape=2.0, rate=3.0)
    found = vb.cavi(model, **QUIET)
    q = found.q
    with vb.seeded(0):
        mu, tau = Normal(q.location, q.precision**-0.5).sample((200_000,)), Gamma(q.shape, q.rate).sample((200_000,))
    log_q = Normal(q.location, q.precision**-0.5).log_prob(mu) + Gamma(q.shape, q.rate).log_prob(tau)
    two, three, half = (torch.tensor(v, dtype=torch.float64) for v in (2.0, 3.0, 0.5))
    log_p = Gamma(two, three).log_prob(tau) + Normal(1.0, (half * tau) ** -0.5).log_prob(mu)
    log_p = log_p + Normal(mu, tau**-0.5).log_prob(X[:, None]).sum(0)
    weights = log_p - log_q
    se = float(weights.std()) / len(weights) ** 0.5
    assert abs(found.elbo - float(weights.mean())) < 4 * se < 0.01
    evidence = float(weights.logsumexp(0)) - math.log(len(weights))
    assert abs(evidence - float(model.log_evidence())) < 0.01 and found.elbo < float(model.log_evidence())


def test_the_gap_of_a_normal_gamma_closes_with_the_data():
    gaps = []
    for count in (2, 10, 40):
        model = vb.conjugate.NormalGamma(X[:count])
        gaps.append(float(model.log_evidence()) - vb.cavi(model, **QUIET).elbo)
    assert gaps[0] > gaps[1] > gaps[2] > 0


def test_a_mixture_has_the_fixed_point_of_scikit_learn():
    model = vb.conjugate.GaussianMixture(CLOUD, 4, concentration=0.1)
    theirs = BayesianGaussianMixture(
        n_components=4, covariance_type="full", weight_concentration_prior_type="dirichlet_distribution", weight_concentration_prior=0.1,
        mean_precision_prior=1.0, degrees_of_freedom_prior=2.0, covariance_prior=2.0 * torch.cov(CLOUD.T).numpy(), tol=1e-12,
        max_iter=5000, reg_covar=0.0, random_state=0,
    ).fit(CLOUD.numpy())  # fmt: skip
    near = torch.as_tensor(theirs.predict_proba(CLOUD.numpy()))
    q = model.parameters(near)
    for _ in range(500):
        q = model.sweep(q)
    torch.testing.assert_close(q.responsibilities, near, rtol=0, atol=1e-4)
    torch.testing.assert_close(q.location, torch.as_tensor(theirs.means_), rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(q.concentration, torch.as_tensor(theirs.weight_concentration_), rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(q.freedom, torch.as_tensor(theirs.degrees_of_freedom_), rtol=1e-4, atol=1e-4)
    ours = torch.linalg.inv(q.scale * q.freedom[:, None, None])
    torch.testing.assert_close(ours, torch.as_tensor(theirs.covariances_), rtol=1e-3, atol=1e-4)


@pytest.mark.filterwarnings("ignore:Singular sample detected")  # by Torch's own sampler, which draws again
def test_the_elbo_of_a_mixture_against_draws():
    model = vb.conjugate.GaussianMixture(CLOUD[::6], 3)
    q, prior, x = vb.cavi(model, sweeps=5, **QUIET).q, model.prior, CLOUD[::6]
    count = (4000,)
    with vb.seeded(1):
        weights, z = Dirichlet(q.concentration).sample(count), Categorical(q.responsibilities).sample(count)
        scatter = Wishart(q.freedom, q.scale).sample(count)
        ours = MultivariateNormal(q.location, precision_matrix=q.strength[:, None, None] * scatter)
        means = ours.sample()
    theirs = MultivariateNormal(prior.location, precision_matrix=prior.strength[:, None, None] * scatter)
    draws = Dirichlet(prior.concentration).log_prob(weights) - Dirichlet(q.concentration).log_prob(weights)
    draws = draws - Categorical(q.responsibilities).log_prob(z).sum(1) + weights.gather(1, z).log().sum(1)
    prior_scatter = Wishart(prior.freedom, prior.scale.contiguous())
    draws = draws + (prior_scatter.log_prob(scatter) - Wishart(q.freedom, q.scale).log_prob(scatter)).sum(1)
    draws = draws + (theirs.log_prob(means) - ours.log_prob(means)).sum(1)
    row = torch.arange(count[0])[:, None]
    draws = draws + MultivariateNormal(means[row, z], precision_matrix=scatter[row, z]).log_prob(x).sum(1)
    se = float(draws.std()) / len(draws) ** 0.5
    assert abs(float(model.elbo(q)) - float(draws.mean())) < 4 * se < 1.0


def test_a_sparse_prior_empties_what_is_not_needed():
    found = vb.cavi(vb.conjugate.GaussianMixture(CLOUD, 6, concentration=1e-3), restarts=5, **QUIET)
    assert int((found.q.responsibilities.sum(0) > 1).sum()) == 3
    assert max(found.restarts) == found.elbo and len(found.restarts) == 5
    assert found.to_dataframe().elbo.diff().dropna().gt(-1e-6).all()


def test_a_sweep_that_loses_is_an_error():
    """The mutant: means that overshoot."""

    class Wrong(vb.conjugate.FactoredGaussian):
        def sweep(self, q):
            return q + 2.5 * (super().sweep(q) - q)

    with pytest.raises(vb.errors.NonFinite, match="a sweep can't decrease it"):
        vb.cavi(Wrong(torch.zeros(2, dtype=torch.float64), precision(0.9)), **QUIET)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: vb.conjugate.FactoredGaussian(torch.zeros(2), torch.ones(2, 2)), "Wanted: a symmetric positive definite"),
        (lambda: vb.conjugate.FactoredGaussian(torch.zeros(2), torch.ones(2, 3)), "Wanted: a symmetric positive definite"),
        (lambda: vb.conjugate.NormalGamma(torch.zeros(0)), "Wanted: \\(N,\\)"),
        (lambda: vb.conjugate.NormalGamma(X, rate=0.0), "rate=0.0 is out of range"),
        (lambda: vb.conjugate.GaussianMixture(CLOUD[:2], 3), "one row per component"),
        (lambda: vb.conjugate.GaussianMixture(CLOUD, 3, freedom=1.0), "a freedom above 1"),
        (lambda: vb.conjugate.GaussianMixture(CLOUD[:, :1].repeat(1, 2), 3), "singular"),
        (lambda: vb.conjugate.GaussianMixture(CLOUD.index_fill(1, torch.tensor([0]), 0.1), 3), "singular"),
        (lambda: vb.cavi(vb.conjugate.NormalGamma(X), sweeps=0, progress=False), "at least 1"),
    ],
)  # fmt: skip
def test_bad_input(make, message):
    with pytest.raises(vb.errors.BadInput, match=message):
        make()
