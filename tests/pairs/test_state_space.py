"""The linear-Gaussian state-space pair: its closed forms against a table and against Kalman's filter."""

from __future__ import annotations

import pytest
import torch
from torch.distributions import Normal

import vbayes as vb

pytestmark = pytest.mark.usefixtures("double")


def series(rows: int, steps: int) -> torch.Tensor:
    with vb.seeded(3):
        return torch.randn(rows, steps)


def kalman(x: torch.Tensor, slope: float, step: float = 0.7, noise: float = 0.5) -> torch.Tensor:
    """() log p(x) of one series, datum by datum."""
    mean, variance, found = torch.zeros(()), torch.zeros(()), torch.zeros(())
    for datum in x:
        mean, variance = slope * mean, slope**2 * variance + step**2
        found = found + Normal(mean, (variance + noise**2).sqrt()).log_prob(datum)
        gain = variance / (variance + noise**2)
        mean, variance = mean + gain * (datum - mean), (1 - gain) * variance
    return found


def test_evidence_is_that_of_kalmans_filter():
    x = series(2, 6)
    pair = vb.pairs.state_space(6).initialise(vb.Batch((x,)))
    with pair.scope(), torch.no_grad():
        right = torch.stack([kalman(row, 0.8) for row in x])
        torch.testing.assert_close(pair.exact.log_evidence_per_datum(x), right)
        torch.testing.assert_close(pair.exact.log_evidence(x), right.sum())


def test_closed_forms_are_those_of_a_table():
    x = series(2, 2)
    pair = vb.pairs.state_space(2).initialise(vb.Batch((x,)))
    with pair.scope():
        table, leaves = vb.tabulate(pair, vb.Batch((x,))), list(pair.leaves.values())
        elbo = pair.exact.elbo(x)
        torch.testing.assert_close(table.elbo().sum(), elbo, rtol=1e-10, atol=1e-10)
        torch.testing.assert_close(table.log_evidence().sum(), pair.exact.log_evidence(x))
        for mine, right in zip(*(torch.autograd.grad(e, leaves) for e in (elbo, table.elbo().sum())), strict=True):
            torch.testing.assert_close(mine, right, rtol=1e-8, atol=1e-8)
        posterior = table.posterior()
        exact = pair.exact.posterior(x)
        for t in (0, 1):
            z = table.values[f"z{t + 1}"].squeeze(-1)
            marginal = exact[f"z{t + 1}"]
            torch.testing.assert_close((posterior * z).sum(0), marginal.mean, rtol=1e-8, atol=1e-8)
            torch.testing.assert_close(
                (posterior * z**2).sum(0) - marginal.mean**2, marginal.variance, rtol=1e-8, atol=1e-8
            )


def test_other_data_than_it_was_made_for():
    with pytest.raises(vb.errors.BadInput, match="columns|shape"):
        vb.fit(vb.pairs.state_space(3), series(2, 4), steps=1, progress=False)
