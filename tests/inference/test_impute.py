"""What is missing, against the conditional of a Gaussian, which is known."""

from __future__ import annotations

import functools

import pyro
import pyro.distributions as dist
import pytest
import torch

import vbayes as vb
from tests.models import schools_by_hand

KNOWN = torch.tensor([True, True, False, True, False, False])


@functools.cache
def fitted() -> tuple[vb.Fit, torch.Tensor]:
    with vb.seeded(0):
        weight = torch.randn(6, 2)
        x = torch.randn(25, 2) @ weight.T + 0.3 * torch.randn(25, 6)
    pair = vb.pairs.probabilistic_pca(6, 2, covariance="full")
    return vb.fit(pair, x, epochs=1000, learning_rate=2e-2, progress=False, estimator="stl"), x


def linear(*, off: float = 0.0) -> tuple[vb.Pair, torch.Tensor]:
    """Probabilistic PCA at its maximum with the exact posterior for a guide, which `off` takes away from it; and data."""
    fit, x = fitted()
    found = fit.pair.copy()
    return found.load({"gain": found.parameters["gain"] * (1 - off)}), x


def conditional(pair: vb.Pair, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Mean (N, missing) and standard deviations (missing,) of what is missing given the rest."""
    store = {name: value.double() for name, value in pair.constrained().items()}
    w, b = store["weight"], store["offset"]
    joint = w @ w.T + store["scale"].square() * torch.eye(6)
    seen, missing = KNOWN.nonzero().flatten(), (~KNOWN).nonzero().flatten()
    gain = joint[missing][:, seen] @ torch.linalg.inv(joint[seen][:, seen])
    spread = (joint[missing][:, missing] - gain @ joint[seen][:, missing]).diagonal().sqrt()
    return b[missing] + (x[:, seen].double() - b[seen]) @ gain.T, spread


def chain(pair: vb.Pair, x: torch.Tensor) -> vb.Imputation:
    return vb.impute(pair, x, KNOWN, draws=1000, burn_in=50, progress=False)


def zs(found: vb.Imputation, pair: vb.Pair, x: torch.Tensor) -> torch.Tensor:
    """(N, missing) errors of the mean of 1000 draws in standard errors, from the means of 20 parts of the chain."""
    mean, _ = conditional(pair, x)
    parts = found.draws[:, :, ~KNOWN].double().reshape(20, 50, len(x), 3).mean(1)
    return (parts.mean(0) - mean) / (parts.std(0) / 20**0.5)


@pytest.mark.slow
@pytest.mark.on_cpu
def test_the_draws_are_of_what_is_missing_given_the_rest():
    pair, x = linear()
    found = chain(pair, x)
    mean, spread = conditional(pair, x)
    assert torch.equal(found.x[:, KNOWN], x[:, KNOWN]) and (found.sd[:, KNOWN] == 0).all()
    assert torch.equal(found.draws[:, :, KNOWN], x[:, KNOWN].expand(1000, -1, -1))
    assert (found.x[:, ~KNOWN] - mean).abs().max() < 0.25 * spread.max()
    torch.testing.assert_close(found.sd[:, ~KNOWN].mean(0).double(), spread, rtol=0.03, atol=0)
    assert zs(found, pair, x).abs().mean() < 1.3  # 0.8 for errors that are normal, a little more for twenty parts


@pytest.mark.slow
@pytest.mark.on_cpu
def test_whatever_the_guide(monkeypatch):
    """A guide whose mean is a tenth too near the prior's: the chain is right all the same; without its refusals it is not."""
    pair, x = linear(off=0.1)
    assert zs(chain(pair, x), pair, x).abs().mean() < 1.3
    monkeypatch.setattr("vbayes.inference.impute.torch.rand_like", torch.zeros_like)  # log 0: all is taken
    assert zs(chain(pair, x), pair, x).abs().mean() > 6


@pytest.mark.slow
def test_binary_pixels_and_a_mask_of_each_row():
    data = vb.data.digits().rows(slice(0, 300))
    fit = vb.fit(vb.pairs.vae(), vb.data.digits(), epochs=30, batch_size=100, learning_rate=3e-3, progress=False)
    known = torch.rand(300, 64, generator=torch.Generator().manual_seed(0)) < 0.6
    found = vb.impute(fit, data, known, draws=50, burn_in=30, progress=False)
    assert set(found.draws.unique().tolist()) == {0.0, 1.0}
    missing = ~known
    wrong = ((found.x > 0.5).float() != data.first)[missing].float().mean()
    by_means = ((data.first.mean(0) > 0.5).float().expand(300, -1) != data.first)[missing].float().mean()
    assert wrong < 0.7 * by_means
    again = vb.impute(
        fit, torch.where(known, data.first, 1.0 - data.first), known, draws=50, burn_in=30, progress=False
    )
    assert torch.equal(found.x, again.x)  # what stood in missing places does not matter


def test_what_cannot_be_filled_in():
    pair, x = linear()
    with pytest.raises(
        vb.errors.BadInput, match=r"known has shape \(5,\) and type bool. Wanted: booleans of shape \(25, 6\)"
    ):
        vb.impute(pair, x, KNOWN[:5])
    with pytest.raises(vb.errors.BadInput, match="type float32"):
        vb.impute(pair, x, KNOWN.float())
    with pytest.raises(vb.errors.BadInput, match="draws=1 is below 2"):
        vb.impute(pair, x, KNOWN, draws=1)
    with pytest.raises(vb.errors.Unsuitable, match="its own latents for each row"):
        vb.impute(schools_by_hand(), vb.data.eight_schools(), torch.ones(8, dtype=torch.bool))

    def model(x):
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", dist.Normal(x.new_zeros(2), 1.0).to_event(1))
            pyro.sample("x", dist.MultivariateNormal(z, torch.eye(2)), obs=x)

    def guide(x):
        scale = pyro.param("scale", lambda: torch.tensor(1.0))
        with pyro.plate("data", len(x)):
            pyro.sample("z", dist.Normal(x, scale).to_event(1))

    with pytest.raises(vb.errors.Unsuitable, match="are not independent given the latents"):
        vb.impute(vb.Pair(model, guide), torch.zeros(3, 2), torch.tensor([True, False]))
    point = vb.fit(vb.pairs.bottleneck_autoencoder(6, 2), x, steps=5, progress=False)
    with pytest.raises(vb.errors.Unsuitable, match="point mass"):
        vb.impute(point, x, KNOWN)


def latent_level(x):
    with pyro.plate("data", len(x)):
        z = pyro.sample("z", dist.Normal(0.0, 1.0))
        pyro.sample("x", dist.Normal(z[:, None], 1.0).expand(x.shape).to_event(1), obs=x)


def from_what_is_known(x):
    with pyro.plate("data", len(x)):
        pyro.sample("z", dist.Normal(pyro.param("gain", torch.tensor(0.4)) * x.nan_to_num().sum(-1), 0.7))


GAPS = torch.tensor([[1.0, float("nan")], [0.5, 1.5], [float("nan"), -1.0]])


def test_a_masked_fit_is_filled_in_and_rebuilt_with_its_gaps():
    pair = vb.Pair(latent_level, from_what_is_known)
    fit = vb.fit(pair, GAPS, steps=1, missing="mask", compile=False, progress=False)
    found = vb.impute(fit, draws=20, burn_in=5, progress=False)
    known = ~GAPS.isnan()
    filled = vb.Dataset.of(GAPS.nan_to_num())
    whole = pair.copy().initialise(filled.batch(pair.model)).at(fit.parameters)
    plain = vb.impute(whole, filled, known, draws=20, burn_in=5, progress=False)
    assert torch.equal(found.draws, plain.draws) and torch.equal(found.x[known], GAPS[known])
    with pytest.raises(vb.errors.BadData, match="known is True at 2 entries of the data that are NaN"):
        vb.impute(fit, known=torch.ones(2, dtype=torch.bool), progress=False)
    with pytest.raises(vb.errors.BadInput, match="known was not given, and none of the data"):
        vb.impute(whole, filled, progress=False)
    rebuilt = vb.reconstruct(fit)
    assert torch.equal(rebuilt.x.isnan(), ~known)
    error = torch.where(known, rebuilt.x.nan_to_num() - rebuilt.mean, 0.0).square().sum(1)
    torch.testing.assert_close(rebuilt.squared_error, error)
