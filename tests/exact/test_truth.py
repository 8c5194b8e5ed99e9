"""Sums over a grid against closed forms, and log p = ELBO + KL on every tractable pair, along a training."""

from __future__ import annotations

import math

import pyro
import pyro.distributions as dist
import pytest
import torch

import vbayes as vb
from tests.models import mixed, subsampled
from tests.tractable import PAIRS, X, batch_of, pair_of, table_of

pytestmark = pytest.mark.usefixtures("double")


@pytest.mark.parametrize("name", PAIRS)
def test_evidence_is_elbo_plus_kl(name):
    pair = pair_of(name)
    for step in range(3):
        with pair.scope():
            table = table_of(name, pair)
            assert (table.mass - 1).abs().max() < 1e-9
            gap = table.log_evidence() - table.elbo() - table.kl()
            assert gap.abs().max() < 1e-8 and (table.kl() > -1e-12).all()
            leaves = pair.leaves
            gradients = torch.autograd.grad(table.elbo().sum(), list(leaves.values()))
        assert all(torch.isfinite(g).all() for g in gradients)
        assert name == "bernoulli_toy" or step or table.kl().sum() > 1e-3
        pair.load({k: v + 0.1 * g for (k, v), g in zip(pair.parameters.items(), gradients, strict=True)})


@pytest.mark.parametrize("name", PAIRS)
def test_more_particles_tighten_the_bound(name):
    pair = pair_of(name)
    with pair.scope(), torch.no_grad():
        table = table_of(name, pair)
        one, two = (table.expected(vb.IWAE(k).bound_of, k) for k in (1, 2))
        assert torch.allclose(one, table.elbo(), rtol=1e-10)
        assert (one <= two + 1e-12).all() and (two <= table.log_evidence() + 1e-12).all()


def test_a_table_against_closed_forms():
    log_beta = lambda a, b: math.lgamma(a) + math.lgamma(b) - math.lgamma(a + b)  # noqa: E731
    evidence = {
        "normal_normal": dist.Normal(0.0, math.sqrt(2)).log_prob(X).sum(),
        "gaussian_chain": None,
        "beta_bernoulli": torch.tensor(log_beta(2 + 2, 3 + 1) - log_beta(2, 3)),
        # Σx = 5, three counts: ∫ λ^(2−1+5) e^(−4λ) dλ / (Γ(2) 2! 0! 3!)
        "gamma_poisson": torch.tensor(math.lgamma(7) - 7 * math.log(4) - math.log(2 * 6)),
    }
    for name, right in evidence.items():
        pair = pair_of(name)
        with pair.scope(), torch.no_grad():
            if name == "gaussian_chain":
                w = pyro.param("w")
                right = dist.Normal(0.0, (w**2 + 1 + 0.25).sqrt()).log_prob(X).sum()
            assert table_of(name, pair).log_evidence().sum() == pytest.approx(float(right), rel=1e-10)


def test_a_linear_gaussian_table():
    pair, batch = pair_of("linear_gaussian"), batch_of("linear_gaussian")
    with pair.scope(), torch.no_grad():
        weight, bias = (pyro.param(f"layer$$${n}") for n in ("weight", "bias"))
        right = dist.MultivariateNormal(bias, weight @ weight.T + 0.49 * torch.eye(2)).log_prob(batch.args[0])
        torch.testing.assert_close(table_of("linear_gaussian", pair).log_evidence(), right, rtol=1e-10, atol=0)


def test_the_exact_elbo_of_a_pair_and_its_gradient():
    pair = pair_of("normal_normal")
    with pair.scope():
        leaves = list(pair.leaves.values())
        exact = pair.exact.elbo(X)
        table = table_of("normal_normal", pair)
        assert table.elbo().sum().item() == pytest.approx(exact.item(), rel=1e-12)
        for a, b in zip(*(torch.autograd.grad(v, leaves) for v in (exact, table.elbo().sum())), strict=True):
            torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize(
    ("make", "batch", "message"),
    [
        (mixed, vb.Batch((X,)), "7 latent coordinates"),
        (vb.pairs.normal_normal, vb.Batch((X,), 10), "minibatch"),
        (subsampled, vb.Batch((torch.zeros(4, 3, dtype=torch.float64),)), "subsample"),
    ],
)
def test_what_has_no_table(make, batch, message):
    pair = make().initialise(batch)
    with pytest.raises(vb.errors.Unsuitable, match=message):
        vb.tabulate(pair, batch)


def test_a_latent_that_only_the_model_has():
    def model(x):
        pyro.sample("extra", dist.Normal(0.0, 1.0))
        pyro.sample("x", dist.Normal(pyro.sample("z", dist.Normal(0.0, 1.0)), 1.0), obs=x)

    def guide(x):
        pyro.sample("z", dist.Normal(pyro.param("m", lambda: torch.tensor(0.0)), 1.0))

    batch = vb.Batch((torch.tensor(1.0),))
    with pytest.raises(vb.errors.Unsuitable, match="no site 'extra'"):
        vb.tabulate(vb.Pair(model, guide).initialise(batch), batch)
