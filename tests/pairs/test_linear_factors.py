"""Probabilistic PCA and factor analysis with a linear guide: exact numbers, and the maximum likelihood by training."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import stats
from scipy.linalg import subspace_angles
from sklearn.decomposition import PCA, FactorAnalysis

import vbayes as vb
from tests.pairs.test_autoencoders import cloud
from vbayes.exact import factor_analysis, probabilistic_pca

PAIRS = {
    (name, covariance): (make, covariance)
    for name, make in {"ppca": vb.pairs.probabilistic_pca, "fa": vb.pairs.factor_analysis}.items()
    for covariance in ("diagonal", "full")
}


def moved(name, *, features: int = 6, latent: int = 2) -> tuple[vb.Pair, torch.Tensor]:
    make, covariance = PAIRS[name]
    x = cloud(15)[:, :features]
    pair = make(features, latent, covariance=covariance).initialise(vb.Batch((x,)))
    with vb.seeded(3):
        return pair.load({k: v + 0.3 * torch.randn_like(v) for k, v in pair.parameters.items()}), x


@pytest.mark.usefixtures("double")
@pytest.mark.parametrize("name", PAIRS)
def test_exact_numbers(name):
    """Evidence by scipy; log p(x) = ELBO + KL; Bayes' rule at a draw; the ELBO's gradient against draws of its estimators."""
    pair, x = moved(name)
    with pair.scope(), vb.seeded(0), torch.no_grad():
        q, p = pair.run(vb.Batch((x,)))
        leaves = {k: v.clone() for k, v in pair.leaves.items()}
        scale = leaves["scale"].exp().expand(6)
        spread = leaves["weight"] @ leaves["weight"].T + scale.square().diag()
        right = stats.multivariate_normal.logpdf(x.numpy(), leaves["offset"].numpy(), spread.numpy()).sum()
        evidence, elbo = pair.exact.log_evidence(x), pair.exact.elbo(x)
        assert float(evidence) == pytest.approx(right, rel=1e-10)
        posterior, guide = pair.exact.posterior(x)["z"], q.nodes["z"]["fn"]
        if name[1] == "diagonal":
            guide = torch.distributions.MultivariateNormal(guide.mean, scale_tril=guide.stddev.diag_embed())
        gap = torch.distributions.kl_divergence(
            torch.distributions.MultivariateNormal(guide.mean, guide.covariance_matrix),
            torch.distributions.MultivariateNormal(posterior.mean, posterior.covariance_matrix),
        ).sum()
        assert gap > 0.1
        torch.testing.assert_close(evidence, elbo + gap)
        bayes = p.log_prob_sum() - evidence
        torch.testing.assert_close(posterior.log_prob(q.nodes["z"]["value"]).sum(), bayes)


@pytest.mark.usefixtures("double")
@pytest.mark.parametrize("name", PAIRS)
def test_gradients_of_the_exact_elbo(name):
    """Against the table of all z, with one latent; a sampled mean for several is the laboratory's matter."""
    pair, x = moved(name, features=3, latent=1)
    batch = vb.Batch((x,))
    if name[1] == "full":  # a Gaussian of one dimension, laid out as a vector
        assert pair.parameters["guide_scale"].shape == (1, 1)
    with pair.scope():
        leaves = list(pair.leaves.values())
        exact, table = pair.exact.elbo(x), vb.tabulate(pair, batch)
        torch.testing.assert_close(table.elbo().sum(), exact)
        torch.testing.assert_close(table.log_evidence().sum(), pair.exact.log_evidence(x))
        for a, b in zip(*(torch.autograd.grad(v, leaves) for v in (exact, table.elbo().sum())), strict=True):
            torch.testing.assert_close(a, b, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("name", PAIRS)
def test_estimators_agree_with_the_exact_elbo(name):
    pair, x = moved(name)
    table = vb.compare(
        pair, x, ["pathwise", "analytic_kl", "stl"], at={"here": pair}, replicas=4000, compile=False
    ).to_dataframe()
    assert len(table) and table.bias_z.abs().max() < 4.5
    found = vb.check(pair, x, show=False)
    assert [site.analytic_kl for site in found.sites] == ["yes", ""]


@pytest.mark.usefixtures("double")
@pytest.mark.parametrize("covariance", ["diagonal", "full"])
def test_at_the_closed_form_the_linear_guide_is_the_posterior(covariance):
    """Tipping & Bishop's W has orthogonal columns, so even a diagonal guide leaves nothing (Lucas et al. 2019)."""
    x = cloud()
    best = probabilistic_pca.maximum_likelihood(x, 3)
    m = best.weight.T @ best.weight + best.noise[0] * torch.eye(3)
    spread = best.noise[0] * torch.linalg.inv(m)
    pair = vb.pairs.probabilistic_pca(6, 3, covariance=covariance).initialise(vb.Batch((x,)))
    pair = pair.at(
        {
            "weight": best.weight,
            "offset": best.offset,
            "scale": best.noise[0].sqrt(),
            "gain": best.weight @ torch.linalg.inv(m),
            "guide_scale": spread.diagonal().sqrt() if covariance == "diagonal" else torch.linalg.cholesky(spread),
        }
    )
    with pair.scope():
        elbo, evidence = pair.exact.elbo(x), pair.exact.log_evidence(x)
        torch.testing.assert_close(elbo, evidence, rtol=1e-12, atol=0)
        torch.testing.assert_close(evidence, best.log_evidence(x).sum())
        gradients = torch.autograd.grad(elbo, list(pair.leaves.values()))
    assert max(float(g.abs().max()) for g in gradients) < 1e-8 * abs(float(elbo.detach()))
    # Turned by 45° the columns are not orthogonal any more: the evidence stays, a diagonal guide falls behind it.
    turn = torch.eye(3)
    turn[:2, :2] = torch.tensor([[1.0, -1.0], [1.0, 1.0]]) / 2**0.5
    turned = pair.at({"weight": best.weight @ turn, "gain": best.weight @ torch.linalg.inv(m) @ turn})
    with turned.scope(), torch.no_grad():
        torch.testing.assert_close(turned.exact.log_evidence(x), evidence.detach())
        gap = (turned.exact.log_evidence(x) - turned.exact.elbo(x)) / len(x)
    assert gap > 0.01


def reached(pair: vb.Pair, x: torch.Tensor) -> tuple[vb.Fit, float, float]:
    """ELBO and evidence per datum after training."""
    fit = vb.fit(pair, x, "stl", steps=2000, learning_rate=0.03, progress=False)
    fit = vb.fit(fit.pair, x, "stl", steps=1000, learning_rate=1e-3, progress=False)
    with fit.pair.scope(), torch.no_grad():
        return fit, float(fit.pair.exact.elbo(x)) / len(x), float(fit.pair.exact.log_evidence(x)) / len(x)


@pytest.mark.parametrize("covariance", ["diagonal", "full"])
def test_training_reaches_the_closed_form(covariance):
    x = cloud()
    fit, elbo, evidence = reached(vb.pairs.probabilistic_pca(6, 3, covariance=covariance), x)
    best = float(probabilistic_pca.maximum_likelihood(x.double(), 3).log_evidence(x.double()).mean())
    assert best - 2e-3 < elbo <= evidence + 1e-5 and evidence < best + 1e-5
    pca = PCA(3).fit(x.numpy())
    weight = fit.parameters["weight"].numpy()
    assert np.degrees(subspace_angles(weight, pca.components_.T)).max() < 1
    cosines = np.abs(weight.T @ pca.components_.T / np.linalg.norm(weight, axis=0)[:, None])
    if covariance == "diagonal":  # which chooses the rotation
        assert (cosines.max(1) > 0.99).all() and sorted(cosines.argmax(1)) == [0, 1, 2]


def test_training_reaches_factor_analysis():
    generator = torch.Generator().manual_seed(2)
    z, weight, noise = (torch.randn(*shape, generator=generator) for shape in ((400, 2), (2, 6), (400, 6)))
    x = z @ weight + noise * torch.linspace(0.4, 1.5, 6) + 2.0
    _, elbo, evidence = reached(vb.pairs.factor_analysis(6, 2, covariance="full"), x)
    theirs = FactorAnalysis(2, tol=1e-8, max_iter=10_000, svd_method="lapack").fit(x.double().numpy())
    best = theirs.score(x.double().numpy())
    assert float(factor_analysis.maximum_likelihood(x.double(), 2).log_evidence(x.double()).mean()) == pytest.approx(
        best, abs=1e-5
    )
    assert best - 2e-3 < elbo <= evidence + 1e-5 and evidence < best + 1e-5


@pytest.mark.parametrize("make", [vb.pairs.probabilistic_pca, vb.pairs.factor_analysis])
def test_bad_input(make):
    for arguments, message in [
        ({"features": 0}, "features=0 is below 1"),
        ({"latent": -2}, "latent=-2 is below 1"),
        ({"covariance": "round"}, "covariance='round' is not a covariance of the guide. Wanted: 'diagonal' or 'full'"),
    ]:
        with pytest.raises(vb.errors.BadInput, match=message):
            make(**arguments)
    with pytest.raises(vb.errors.BadInput, match=r"x has shape \(300, 6\), but pair '\w+' was made for features=5"):
        vb.fit(make(5, 2), cloud(), steps=1, progress=False)


def test_reconstructions_need_one_code_and_one_x():
    found = vb.reconstruct(vb.pairs.vae(6, 5, 2), (cloud() > 0).float())
    assert found.code.shape == (300, 2) and found.mean.shape == (300, 6) and 0 < found.mean.min()
    other = vb.reconstruct(vb.pairs.probabilistic_pca(6, 2), cloud(), seed=1)
    assert not torch.equal(other.code, vb.reconstruct(vb.pairs.probabilistic_pca(6, 2), cloud(), seed=2).code)
    with pytest.raises(vb.errors.BadInput, match="has the latent sites z1, z2 and the observed sites x"):
        vb.reconstruct(vb.pairs.gaussian_chain(3), torch.zeros(3))
