"""Sums over a grid against closed forms, and log p = ELBO + KL on every tractable pair, along a training."""

from __future__ import annotations

import pytest
import torch

import vbayes as vb
from tests.tractable import PAIRS, X, pair_of, table_of

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


def test_the_exact_elbo_of_a_pair_and_its_gradient():
    pair = pair_of("normal_normal")
    with pair.scope():
        leaves = list(pair.leaves.values())
        exact = pair.exact.elbo(X)
        table = table_of("normal_normal", pair)
        assert table.elbo().sum().item() == pytest.approx(exact.item(), rel=1e-12)
        for a, b in zip(*(torch.autograd.grad(v, leaves) for v in (exact, table.elbo().sum())), strict=True):
            torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-12)
