"""Sums over a table, against the same sums written out."""

from __future__ import annotations

import itertools

import pytest
import torch

import vbayes as vb
from vbayes.exact import table as module
from vbayes.exact.table import Table

pytestmark = pytest.mark.usefixtures("double")


def small() -> tuple[Table, torch.Tensor]:
    """Three nodes for two data, live in a parameter; the last is one that neither p nor q allows for the second datum."""
    logits = torch.tensor([[0.4, 0.1], [-0.7, 0.9], [0.2, -torch.inf]]).requires_grad_()
    log_p = torch.tensor([[-1.0, -2.0], [-0.5, -0.3], [-3.0, -torch.inf]])
    return Table(log_p, logits.log_softmax(0), torch.zeros(3, 2)), logits


def log_mean_exp(log_w: torch.Tensor) -> torch.Tensor:
    return log_w.exp().mean(0).log()


def first_only(log_w: torch.Tensor) -> torch.Tensor:
    """A bound that cares for the order of the particles."""
    return log_w[0] - 0.5 * log_w[-1]


def by_hand(table: Table, bound_of, k: int) -> torch.Tensor:
    found = []
    for datum in range(2):
        total = torch.zeros(())
        for nodes in itertools.product(range(3), repeat=k):
            q = [table.log_q[g, datum].exp() for g in nodes]
            if all(float(weight.detach()) > 0 for weight in q):
                log_w = torch.stack([table.log_p[g, datum] - table.log_q[g, datum] for g in nodes])
                total = total + torch.stack(q).prod() * bound_of(log_w)
        found.append(total)
    return torch.stack(found)


@pytest.mark.parametrize("bound_of", [log_mean_exp, first_only])
@pytest.mark.parametrize("k", [1, 2, 3])
def test_expected(bound_of, k):
    table, logits = small()
    value, right = table.expected(bound_of, k), by_hand(table, bound_of, k)
    torch.testing.assert_close(value, right)
    ours, theirs = (torch.autograd.grad(v.sum(), logits, retain_graph=True)[0][:, 0] for v in (value, right))
    torch.testing.assert_close(ours, theirs)


def test_impossible_nodes_leave_gradients_finite():
    table, _ = small()
    allowed = torch.tensor([[0.4, 0.1], [-0.7, 0.9]]).requires_grad_()
    log_q = torch.cat([allowed.log_softmax(0), torch.full((1, 2), -torch.inf)])
    table = Table(table.log_p, log_q, table.log_measure)
    for value in (table.elbo(), table.kl(), table.expected(log_mean_exp, 2)):
        assert torch.isfinite(value).all()
        (gradient,) = torch.autograd.grad(value.sum(), allowed, retain_graph=True)
        assert torch.isfinite(gradient).all() and gradient.abs().max() > 0


def test_identities():
    table, _ = small()
    torch.testing.assert_close(table.log_evidence(), table.elbo() + table.kl(), rtol=1e-12, atol=0)
    torch.testing.assert_close(table.expected(lambda w: w.mean(0), 2), table.elbo())
    torch.testing.assert_close(table.mass, torch.ones(2))
    torch.testing.assert_close(table.posterior().sum(0), torch.ones(2))
    assert (table.kl() > 0).all()
    two, three = (table.expected(log_mean_exp, k) for k in (2, 3))
    assert (table.elbo() < two).all() and (two < three).all() and (three < table.log_evidence()).all()


def test_means():
    table, _ = small()
    number = torch.arange(3.0)[:, None].expand(3, 2)
    under_p, under_q = table.mean(number)
    weights = torch.tensor([-1.0, -0.5, -3.0]).exp()
    torch.testing.assert_close(under_p[0], (weights * torch.arange(3.0)).sum() / weights.sum())
    torch.testing.assert_close(under_q[0], (table.log_q[:, 0].exp() * torch.arange(3.0)).sum())


def test_measure_counts():
    """Each node twice, at half of the measure, is the same table."""
    table, _ = small()
    halves = torch.full((6, 2), 0.5).log()
    twice = Table(table.log_p.repeat(2, 1), table.log_q.repeat(2, 1), halves)
    for name in ("log_evidence", "elbo", "kl"):
        torch.testing.assert_close(getattr(twice, name)(), getattr(table, name)())
    torch.testing.assert_close(twice.expected(log_mean_exp, 2), table.expected(log_mean_exp, 2))
    # The mutant: without the measure nothing is right.
    assert (Table(twice.log_p, twice.log_q, 0 * halves).elbo() - table.elbo()).abs().min() > 0.1


def test_chunks_change_nothing(monkeypatch):
    table, logits = small()
    whole = table.expected(log_mean_exp, 3)
    monkeypatch.setattr(module, "CHUNK", 30)
    parts = table.expected(log_mean_exp, 3)
    torch.testing.assert_close(parts, whole)
    ours, theirs = (torch.autograd.grad(v.sum(), logits, retain_graph=True)[0][:, 0] for v in (parts, whole))
    torch.testing.assert_close(ours, theirs)


def test_negligible_nodes():
    log_q = torch.tensor([0.5, 0.5 - 1e-8, 1e-8]).log()
    table = Table(torch.tensor([-1.0, -2.0, 30.0]), log_q, torch.zeros(3))
    exact, without = table.expected(log_mean_exp, 2), table.expected(log_mean_exp, 2, negligible=1e-7)
    assert 1e-8 < float(exact - without) < 1e-5


def test_too_many_tuples():
    table = Table(torch.zeros(2000, 1), torch.full((2000, 1), -2000.0).log_softmax(0), torch.zeros(2000, 1))
    with pytest.raises(vb.errors.BadInput, match="2000 relevant nodes make 8000000000 tuples of 3 particles"):
        table.expected(log_mean_exp, 3)
