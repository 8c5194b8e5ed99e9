"""Linear-Gaussian truth through Woodbury's identity: against dense algebra, in batches, at the edges; and maximum likelihood."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy import stats
from sklearn.datasets import load_wine
from sklearn.decomposition import PCA, FactorAnalysis
from torch.distributions import MultivariateNormal

import vbayes as vb
from vbayes.exact import factor_analysis, probabilistic_pca
from vbayes.exact.linear_gaussian import LinearGaussian

pytestmark = pytest.mark.usefixtures("double")


def random(*batch: int, features: int = 5, latent: int = 2, diagonal: bool = True, seed: int = 0) -> LinearGaussian:
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> torch.Tensor:
        return torch.randn(*batch, *shape, generator=generator)

    def spd(size: int) -> torch.Tensor:
        root = normal(size, size)
        return root @ root.mT + 0.3 * torch.eye(size)

    noise = spd(features) if not diagonal else normal(features).square() + 0.1
    return LinearGaussian(normal(latent), spd(latent), normal(features, latent), normal(features), noise)


def data(*batch: int, rows: int = 4, features: int = 5) -> torch.Tensor:
    return 2 * torch.randn(*batch, rows, features, generator=torch.Generator().manual_seed(9))


def dense(model: LinearGaussian) -> LinearGaussian:
    """The same with its noise written out."""
    full = model.noise.diag_embed() if model.noise.dim() == model.offset.dim() else model.noise
    return LinearGaussian(model.mean, model.covariance, model.weight, model.offset, full)


@pytest.mark.parametrize("diagonal", [True, False])
@pytest.mark.parametrize(("features", "latent"), [(5, 2), (2, 5), (3, 3)])
def test_against_the_joint_gaussian(diagonal, features, latent):
    """Evidence by scipy, posterior by conditioning the joint density of z and x, ELBO from both."""
    model, x = random(features=features, latent=latent, diagonal=diagonal), data(features=features)
    noise = dense(model).noise
    spread = model.weight @ model.covariance @ model.weight.T + noise
    centre = model.weight @ model.mean + model.offset
    right = stats.multivariate_normal.logpdf(x.numpy(), centre.numpy(), spread.numpy())
    torch.testing.assert_close(model.log_evidence(x), torch.from_numpy(right))
    cross = model.covariance @ model.weight.T
    gain = cross @ torch.linalg.inv(spread)
    found = model.posterior(x)
    torch.testing.assert_close(found.mean, model.mean + (x - centre) @ gain.T)
    torch.testing.assert_close(found.covariance_matrix[0], model.covariance - gain @ cross.T)
    torch.testing.assert_close(model.elbo(x, found), model.log_evidence(x))
    other = MultivariateNormal(torch.zeros(4, latent), torch.eye(latent).expand(4, latent, latent))
    gap = torch.distributions.kl_divergence(other, found)
    torch.testing.assert_close(model.elbo(x, other), model.log_evidence(x) - gap)


@pytest.mark.parametrize("diagonal", [True, False])
def test_batches_are_their_members(diagonal):
    many, x = random(3, 2, diagonal=diagonal), data(3, 2)
    q = MultivariateNormal(torch.zeros(3, 2, 4, 2), 0.5 * torch.eye(2).expand(3, 2, 4, 2, 2))
    assert many.log_evidence(x).shape == many.elbo(x, q).shape == (3, 2, 4)
    for i in range(3):
        for j in range(2):
            one = LinearGaussian(*(getattr(many, f)[i, j] for f in ("mean", "covariance", "weight", "offset", "noise")))
            torch.testing.assert_close(many.log_evidence(x)[i, j], one.log_evidence(x[i, j]))
            torch.testing.assert_close(many.posterior(x).mean[i, j], one.posterior(x[i, j]).mean)
            torch.testing.assert_close(
                many.posterior(x).covariance_matrix[i, j], one.posterior(x[i, j]).covariance_matrix
            )
            part = MultivariateNormal(q.mean[i, j], q.covariance_matrix[i, j])
            torch.testing.assert_close(many.elbo(x, q)[i, j], one.elbo(x[i, j], part))


def test_gradients():
    model, x = random(), data()
    fields = [getattr(model, f).clone().requires_grad_() for f in ("mean", "weight", "offset", "noise")]

    def evidence(mean, weight, offset, noise):
        return LinearGaussian(mean, model.covariance, weight, offset, noise).log_evidence(x).sum()

    assert torch.autograd.gradcheck(evidence, fields)


def test_many_features_need_no_large_matrix():
    """20 000 features: their covariance would take 3.2 GB."""
    model = random(features=20_000, latent=3)
    assert torch.isfinite(model.log_evidence(data(features=20_000))).all()


def test_little_noise_cancels_nothing():
    """In single precision, with a noise variance of 1e−8."""
    model, x = random(), data()
    quiet = LinearGaussian(model.mean, model.covariance, model.weight, model.offset, torch.full((5,), 1e-8))
    near = model.offset + torch.randn(4, 2, generator=torch.Generator().manual_seed(1)) @ model.weight.T
    single = LinearGaussian(*(getattr(quiet, f).float() for f in ("mean", "covariance", "weight", "offset", "noise")))
    for rows in (x, near):
        right = dense(quiet).log_evidence(rows)
        torch.testing.assert_close(quiet.log_evidence(rows), right, rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(single.log_evidence(x.float()).double(), quiet.log_evidence(x), rtol=1e-3, atol=0)


def test_singular_covariances():
    model, x = random(latent=3), data()
    root = torch.tensor([[1.0, 0.0], [0.5, 0.0], [0.0, 2.0]])
    flat = LinearGaussian(model.mean, root @ root.T, model.weight, model.offset, model.noise)
    # The same model with the two latents that are left.
    less = LinearGaussian(
        torch.zeros(2), torch.eye(2), model.weight @ root, model.offset + model.weight @ model.mean, model.noise
    )
    torch.testing.assert_close(flat.log_evidence(x), less.log_evidence(x))
    with pytest.raises(vb.errors.BadInput, match="prior's covariance is singular or not a covariance"):
        flat.posterior(x)
    with pytest.raises(vb.errors.BadInput, match="prior's covariance is singular"):
        flat.elbo(x, MultivariateNormal(torch.zeros(4, 3), torch.eye(3)))
    for noise, message in [
        (torch.zeros(5), "smallest variance of the noise is 0, so x has no density given z"),
        (
            torch.ones(5, 5),
            "noise is singular or not a covariance: the ratio of its smallest to its largest eigenvalue",
        ),
        (torch.tensor([1.0, 1.0, -0.5, 1.0, 1.0]), "smallest variance of the noise is -0.5"),
    ]:
        bad = LinearGaussian(model.mean, model.covariance, model.weight, model.offset, noise)
        with pytest.raises(vb.errors.BadInput, match=message):
            bad.log_evidence(x)


def wine() -> torch.Tensor:
    x = load_wine().data
    return torch.from_numpy((x - x.mean(0)) / x.std(0) + np.arange(13))


@pytest.mark.parametrize("latent", [1, 3, 12])
def test_maximum_likelihood_of_probabilistic_pca(latent):
    x = wine()
    best = probabilistic_pca.maximum_likelihood(x, latent)
    found = float(best.log_evidence(x).mean())
    # Tipping & Bishop's eq. 8 put in their eq. 4, in eigenvalues alone.
    eigenvalues = np.linalg.eigvalsh(np.cov(x.numpy().T, bias=True))[::-1]
    noise = eigenvalues[latent:].mean()
    right = -0.5 * (
        13 * math.log(2 * math.pi) + np.log(eigenvalues[:latent]).sum() + (13 - latent) * math.log(noise) + 13
    )
    assert found == pytest.approx(right, rel=1e-10)
    # scikit-learn divides by N − 1, so it is a little below; with its own numbers the evidence is its score.
    pca = PCA(latent, svd_solver="full").fit(x.numpy())
    assert found - 1e-3 < pca.score(x.numpy()) < found
    weight = torch.from_numpy(pca.components_.T * np.sqrt(pca.explained_variance_ - pca.noise_variance_))
    theirs = LinearGaussian(
        best.mean, best.covariance, weight, torch.from_numpy(pca.mean_), torch.full((13,), pca.noise_variance_)
    )
    assert float(theirs.log_evidence(x).mean()) == pytest.approx(pca.score(x.numpy()), rel=1e-10)
    assert gradient_at(best, x, shared=True) < 1e-9


@pytest.mark.parametrize("latent", [1, 2, 3])
def test_maximum_likelihood_of_factor_analysis(latent):
    x = wine()
    best = factor_analysis.maximum_likelihood(x, latent)
    theirs = FactorAnalysis(latent, tol=1e-10, max_iter=50_000, svd_method="lapack").fit(x.numpy())
    assert float(best.log_evidence(x).mean()) == pytest.approx(theirs.score(x.numpy()), abs=1e-6)
    np.testing.assert_allclose(best.noise.numpy(), theirs.noise_variance_, rtol=1e-3)
    assert gradient_at(best, x, shared=False) < 1e-4
    assert best.log_evidence(x).mean() > probabilistic_pca.maximum_likelihood(x, latent).log_evidence(x).mean()
    # Another unit of a feature changes its row of W and its noise, and nothing else.
    unit = torch.linspace(0.01, 100, 13)
    scaled = factor_analysis.maximum_likelihood(x * unit, latent)
    torch.testing.assert_close(scaled.noise, best.noise * unit**2, rtol=1e-3, atol=0)


def gradient_at(model: LinearGaussian, x: torch.Tensor, *, shared: bool) -> float:
    """The largest derivative of the evidence per datum in W, b and the logarithm of the noise."""
    weight, offset = (getattr(model, f).clone().requires_grad_() for f in ("weight", "offset"))
    log_noise = (model.noise[:1] if shared else model.noise).log().requires_grad_()
    noise = log_noise.exp().expand(len(model.noise))
    live = LinearGaussian(model.mean, model.covariance, weight, offset, noise).log_evidence(x).mean()
    return max(float(g.abs().max()) for g in torch.autograd.grad(live, [weight, offset, log_noise]))


def test_what_has_no_maximum():
    x = wine()
    for fit in (probabilistic_pca.maximum_likelihood, factor_analysis.maximum_likelihood):
        for latent in (0, 13):
            with pytest.raises(vb.errors.BadInput, match=f"latent={latent} for 13 features. Wanted: 1 to 12"):
                fit(x, latent)
        with pytest.raises(vb.errors.BadInput, match=r"x has shape \(13,\)"):
            fit(x[0], 1)
    with pytest.raises(vb.errors.BadInput, match="4 directions contain all of the 5 data"):
        probabilistic_pca.maximum_likelihood(x[:5], 4)
    with pytest.raises(vb.errors.BadInput, match=r"Features \[1\] are constant"):
        factor_analysis.maximum_likelihood(x.index_fill(1, torch.tensor([1]), 0.1), 2)  # whose mean is not 0.1
    twin = torch.cat([x[:, :6], x[:, :1] * 2], 1)
    with pytest.raises(vb.errors.BadInput, match="Heywood|were not enough"):
        factor_analysis.maximum_likelihood(twin, 2)
    with pytest.raises(vb.errors.BadInput, match=r"of feature \d+; if it goes to 0 \(a Heywood case"):
        factor_analysis.maximum_likelihood(x, 5, most_rounds=1000)
    with pytest.raises(vb.errors.BadInput, match="3 rounds of EM were not enough"):
        factor_analysis.maximum_likelihood(x, 2, most_rounds=3)
