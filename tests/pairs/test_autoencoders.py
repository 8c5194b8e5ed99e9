"""Autoencoders are point masses under a Gaussian likelihood: PCA, the identity, and sparse codes are their optima."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy.linalg import subspace_angles
from sklearn.decomposition import PCA, sparse_encode

import vbayes as vb
from vbayes.pairs.flat import Flat

AUTOENCODERS = {
    "linear_autoencoder": vb.pairs.linear_autoencoder,
    "bottleneck_autoencoder": vb.pairs.bottleneck_autoencoder,
    "sparse_autoencoder": vb.pairs.sparse_autoencoder,
}


def cloud(rows: int = 300) -> torch.Tensor:
    """(N, 6) off the origin, with standard deviations from 3 down to 0.3 along crooked axes."""
    generator = torch.Generator().manual_seed(4)
    axes = torch.linalg.qr(torch.randn(6, 6, generator=generator)).Q
    deviations = torch.tensor([3.0, 2.0, 1.3, 0.7, 0.5, 0.3])
    return torch.randn(rows, 6, generator=generator) * deviations @ axes.T + torch.linspace(-2, 3, 6)


def trained(pair: vb.Pair, x: torch.Tensor, *, steps: int = 1500, rate: float = 0.03) -> vb.Fit:
    """Two fits, the second of a tenth of the rate."""
    rough = vb.fit(pair, x, steps=steps, learning_rate=rate, progress=False)
    return vb.fit(rough.pair, x, steps=steps // 3, learning_rate=rate / 10, progress=False)


def value(pair: vb.Pair, estimator: vb.Estimator, x: torch.Tensor) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    """The ELBO and its gradient."""
    batch = vb.Batch((x,))
    pair.initialise(batch)
    with pair.scope(), vb.seeded(0):
        leaves = pair.leaves
        found = estimator.estimate(estimator.draw(pair, batch))
        gradients = torch.autograd.grad(found.surrogate.sum(), list(leaves.values()))
    return found.value.sum().detach(), dict(zip(leaves, gradients, strict=True))


@pytest.mark.usefixtures("double")
@pytest.mark.parametrize("name", AUTOENCODERS)
def test_every_estimator_with_a_path_sees_the_log_joint(name):
    """A point mass has no log q: the value is log p(x, h(x)), and its gradient that of the squared error."""
    x, pair = cloud(20), AUTOENCODERS[name](6, 3, scale=0.8)
    rebuilt = vb.reconstruct(pair, x)
    by_hand = -rebuilt.squared_error / (2 * 0.8**2) - 3 * math.log(2 * math.pi * 0.8**2)
    if name == "sparse_autoencoder":
        by_hand = by_hand + torch.distributions.Laplace(0.0, 1 / 0.1).log_prob(rebuilt.code).sum(-1)
    _, reference = value(pair, vb.Pathwise(), x)
    for estimator in (vb.Trace(), vb.AnalyticKL(), vb.Pathwise(), vb.Pathwise(3), vb.STL(), vb.IWAE(4)):
        elbo, gradients = value(pair, estimator, x)
        torch.testing.assert_close(elbo, by_hand.sum())
        assert all(torch.isfinite(g).all() for g in gradients.values())
        for parameter, gradient in gradients.items():
            torch.testing.assert_close(gradient, reference[parameter])


def test_score_functions_say_that_a_point_mass_has_none():
    with pytest.raises(vb.errors.Unsuitable, match="point mass with parameters at 'h'"):
        vb.fit(vb.pairs.linear_autoencoder(6, 2), cloud(), "rloo", steps=1, progress=False)


@pytest.mark.usefixtures("double")
@pytest.mark.parametrize("name", ["linear_autoencoder", "bottleneck_autoencoder"])
@pytest.mark.parametrize("scale", [0.3, 2.0])
def test_gradient_of_the_likelihood_is_that_of_the_squared_error(name, scale):
    """Proportional, with −1/(2 scale²) between them, at any parameters: so the optima are the same."""
    x, pair = cloud(30), AUTOENCODERS[name](6, 2, scale=scale)
    _, ours = value(pair, vb.AnalyticKL(), x)
    with pair.scope():
        leaves = pair.leaves
        _, p = pair.run(vb.Batch((x,)))
        squares = (x - p.nodes["x"]["fn"].mean).square().sum()
        plain = torch.autograd.grad(squares, list(leaves.values()))
    for mine, gradient in zip(ours.values(), plain, strict=True):
        torch.testing.assert_close(mine, -gradient / (2 * scale**2))


def test_linear_autoencoder_is_its_formula():
    """|(x − b) − W Wᵀ(x − b)|², at any W and b."""
    x, pair = cloud(10), vb.pairs.linear_autoencoder(6, 2, seed=3).initialise(vb.Batch((cloud(10),)))
    weight, offset = pair.parameters["weight"], torch.linspace(1, -1, 6)
    found = vb.reconstruct(pair.at({"offset": offset}), x)
    torch.testing.assert_close(found.code, (x - offset) @ weight)
    left = x - offset
    torch.testing.assert_close(found.squared_error, (left - left @ weight @ weight.T).square().sum(1))


def test_linear_autoencoder_is_pca():
    x = cloud()
    fit, pca = trained(vb.pairs.linear_autoencoder(6, 3), x), PCA(3).fit(x.numpy())
    weight, offset = (fit.parameters[k].numpy() for k in ("weight", "offset"))
    assert np.degrees(subspace_angles(weight, pca.components_.T)).max() < 1
    # b matters off the span of W alone.
    off = offset - pca.mean_
    assert np.linalg.norm(off - weight @ (weight.T @ off)) < 0.01
    np.testing.assert_allclose(weight.T @ weight, np.eye(3), atol=1e-3)
    left_out = np.linalg.eigvalsh(np.cov(x.numpy().T, bias=True))[:3].sum()
    loss = float(vb.reconstruct(fit.pair, x).squared_error.mean())
    assert left_out * (1 - 1e-6) < loss < left_out * 1.001
    rebuilt = torch.from_numpy(pca.inverse_transform(pca.transform(x.numpy())))
    torch.testing.assert_close(vb.reconstruct(fit.pair, x).mean, rebuilt, atol=0.05, rtol=0)


@pytest.mark.slow
def test_scale_that_is_learnt_is_the_error_and_changes_no_optimum():
    x = cloud()
    learnt, fixed = (trained(vb.pairs.linear_autoencoder(6, 3, scale=scale), x) for scale in (None, 1.0))
    error = float(vb.reconstruct(learnt.pair, x).squared_error.mean())
    assert error == pytest.approx(float(vb.reconstruct(fixed.pair, x).squared_error.mean()), rel=1e-3)
    assert float(learnt.parameters["scale"]) ** 2 == pytest.approx(error / 6, rel=0.01)
    # The likelihood at its best scale is a falling function of the squared error alone.
    assert learnt.history.elbo_per_datum.iloc[-1] == pytest.approx(
        -3 * (math.log(2 * math.pi * error / 6) + 1), abs=1e-3
    )


@pytest.mark.parametrize("hidden", [6, 8])
def test_as_many_hidden_as_features_rebuild_anything(hidden):
    x = cloud()
    pair = trained(vb.pairs.linear_autoencoder(6, hidden), x, steps=3000).pair
    weight = pair.parameters["weight"].cpu()
    torch.testing.assert_close(weight @ weight.T, torch.eye(6), atol=5e-3, rtol=0)
    stranger = 5 * torch.randn(10, 6, generator=torch.Generator().manual_seed(0))
    assert vb.reconstruct(pair, x).squared_error.mean() < 1e-4 * x.var(0).sum()
    assert vb.reconstruct(pair, stranger).squared_error.mean() < 1e-3 * stranger.var(0).sum()


@pytest.mark.usefixtures("double")
def test_shrinking_is_the_most_probable_code_of_an_orthogonal_dictionary():
    """At an orthogonal W: no code, by an optimiser of another library, has a higher log p(x, h)."""
    x, penalty, scale = cloud(40), 0.5, 0.7
    pair = vb.pairs.sparse_autoencoder(6, 6, penalty=penalty, scale=scale).initialise(vb.Batch((x,)))
    square = torch.linalg.qr(torch.randn(6, 6, generator=torch.Generator().manual_seed(1))).Q
    pair = pair.at({"weight": square, "filters": square, "offset": x.mean(0)})
    code = vb.reconstruct(pair, x).code
    # scikit-learn's: |x − hD|²/2 + alpha Σ|h|
    known = sparse_encode(
        (x - x.mean(0)).numpy(), square.T.numpy(), algorithm="lasso_cd", alpha=penalty * scale**2, max_iter=10_000
    )
    torch.testing.assert_close(code, torch.from_numpy(known), atol=1e-5, rtol=0)
    assert 0.05 < float((code == 0).float().mean()) < 0.95
    elbo, gradients = value(pair, vb.AnalyticKL(), x)
    # τ = penalty · scale² is where the ELBO in τ is highest, for any data.
    assert gradients["threshold"].abs().max() < 1e-8 * abs(float(elbo))
    moved, _ = value(pair.at({"threshold": torch.full((6,), 1.3 * penalty * scale**2)}), vb.AnalyticKL(), x)
    assert moved < elbo


@pytest.mark.slow
def test_sparse_codes_of_digits_are_near_the_most_probable_and_mostly_zero():
    data = vb.data.digits(binary=False)
    data = data.rows(torch.arange(500))
    penalty = 0.1
    fit = trained(vb.pairs.sparse_autoencoder(penalty=penalty), data, steps=450, rate=0.01)
    found = vb.reconstruct(fit.pair, data)
    zero = float((found.code == 0).float().mean())
    assert zero > 0.6
    weight = torch.nn.functional.normalize(fit.parameters["weight"], dim=0)
    centred = (data.first - fit.parameters["offset"]).double().numpy()
    best = torch.from_numpy(
        sparse_encode(centred, weight.T.double().numpy(), algorithm="lasso_cd", alpha=penalty, max_iter=5000)
    )

    def cost(code: torch.Tensor) -> float:
        squares = (torch.from_numpy(centred) - code.double() @ weight.T.double()).square().sum(1)
        return float((squares / 2 + penalty * code.abs().sum(1)).mean())

    # What one layer loses against the most probable code for each datum: never negative, and little of what the codes gain.
    nothing = cost(torch.zeros_like(best))
    assert 0 <= cost(found.code) - cost(best) < 0.15 * (nothing - cost(best))
    # With a tenth of the penalty the code is less sparse.
    loose = trained(vb.pairs.sparse_autoencoder(penalty=penalty / 10), data, steps=450, rate=0.01)
    assert float((vb.reconstruct(loose.pair, data).code == 0).float().mean()) < zero - 0.1


def test_bottleneck_beats_pca_on_a_curve():
    """A half circle has one dimension, which no line follows."""
    angle = torch.linspace(0, math.pi, 200)
    x = torch.stack([angle.cos(), angle.sin()], 1)
    best = float(np.linalg.eigvalsh(np.cov(x.numpy().T, bias=True))[0])
    fit = trained(vb.pairs.bottleneck_autoencoder(2, 1, width=16), x, steps=1500, rate=0.01)
    assert float(vb.reconstruct(fit.pair, x).squared_error.mean()) < 0.1 * best


def test_no_prior_no_data_from_it():
    pair = vb.pairs.linear_autoencoder(6, 2).initialise(vb.Batch((cloud(),)))
    with pair.scope(), pytest.raises(vb.errors.BadInput, match="no prior over its code"):
        pair.generate(vb.Batch((cloud(),)))
    fit = vb.fit(vb.pairs.linear_autoencoder(6, 2), cloud(20), steps=1, progress=False)
    posterior = vb.to_arviz(fit, draws=2)
    assert "posterior" in posterior and "prior" not in posterior
    assert "prior" in vb.to_arviz(
        vb.fit(vb.pairs.sparse_autoencoder(6, 2), cloud(20), steps=1, progress=False), draws=2
    )
    flat = Flat(3).expand((5, 2))
    assert torch.equal(flat.log_prob(torch.ones(5, 2, 3)), torch.zeros(5, 2)) and flat.shape() == (5, 2, 3)


def test_minibatches_are_scaled_to_the_whole():
    x = cloud(300)
    whole = vb.fit(vb.pairs.linear_autoencoder(6, 2), x, steps=0, progress=False).pair
    parts = [vb.fit(whole, x[rows], steps=1, progress=False).history.elbo[0] for rows in torch.arange(300).split(100)]
    assert sum(parts) == pytest.approx(vb.fit(whole, x, steps=1, progress=False).history.elbo[0], rel=1e-5)


@pytest.mark.parametrize("compile", [True, False])
def test_compiled_and_not(compile):
    fit = vb.fit(vb.pairs.sparse_autoencoder(6, 12), cloud(), steps=5, compile=compile, progress=False, batch_size=50)
    assert fit.steps == 5 and fit.progress.staged is compile


@pytest.mark.parametrize("make", AUTOENCODERS.values())
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"features": 0}, "features=0 is below 1. Wanted: an integer of at least 1"),
        ({"hidden": -1}, "hidden=-1 is below 1"),
        ({"hidden": 2.5}, "hidden=2.5 is not an integer"),
        ({"scale": 0.0}, "scale=0.0 is out of range. Wanted: a finite number above 0"),
    ],
)
def test_bad_sizes(make, arguments, message):
    with pytest.raises(vb.errors.BadInput, match=message):
        make(**arguments)


def test_other_bad_input():
    with pytest.raises(vb.errors.BadInput, match="width=0 is below 1"):
        vb.pairs.bottleneck_autoencoder(width=0)
    with pytest.raises(vb.errors.BadInput, match="penalty=-1"):
        vb.pairs.sparse_autoencoder(penalty=-1)
    with pytest.raises(vb.errors.BadInput, match="the likelihood grows without bound"):
        vb.pairs.linear_autoencoder(4, 4, scale=None)
    for make in AUTOENCODERS.values():
        with pytest.raises(
            vb.errors.BadInput, match="made for features=5. Wanted: x of shape .N, 5., or a pair made with features=6"
        ):
            vb.fit(make(5, 2), cloud(), steps=1, progress=False)
    with pytest.raises(vb.errors.BadInput, match="x has shape .6,."):
        vb.check(vb.pairs.linear_autoencoder(6, 2), cloud()[0], show=False)
