"""Pairs whose every answer is known: their closed forms and the table agree, to all digits."""

from __future__ import annotations

import itertools
import math

import pytest
import torch

import vbayes as vb
from tests.quick import some_quick
from vbayes.drawing.densities import densities
from vbayes.pairs import TRACTABLE

pytestmark = pytest.mark.usefixtures("double")
CLOSED = [name for name in TRACTABLE if name not in ("three_bernoulli", "bimodal")]


def moved(name: str) -> vb.Pair:
    pair = TRACTABLE[name].pair()
    with vb.seeded(2):
        return pair.load({k: v + 0.4 * torch.randn_like(v) for k, v in pair.parameters.items()})


@pytest.mark.parametrize("name", TRACTABLE)
def test_evidence_is_elbo_plus_kl(name):
    pair, batch = moved(name), TRACTABLE[name].batch()
    with pair.scope():
        table = vb.tabulate(pair, batch)
        evidence = pair.exact.log_evidence(*batch.args) if pair.exact else table.log_evidence().sum()
        assert float((table.elbo() + table.kl()).sum().detach()) == pytest.approx(float(evidence.detach()), abs=1e-8)
        assert (table.kl() > 0).all() and table.elbo().shape == (len(batch.args[0]),)
        torch.testing.assert_close(table.mass, torch.ones_like(table.mass), rtol=0, atol=1e-9)


@pytest.mark.parametrize("name", CLOSED)
def test_table_and_closed_form(name):
    pair, batch = moved(name), TRACTABLE[name].batch()
    with pair.scope():
        leaves = list(pair.leaves.values())
        table, elbo = vb.tabulate(pair, batch).elbo().sum(), pair.exact.elbo(*batch.args)
        torch.testing.assert_close(table, elbo, rtol=1e-10, atol=1e-10)
        ours, theirs = (torch.autograd.grad(value, leaves, materialize_grads=True) for value in (table, elbo))
    for mine, known in zip(ours, theirs, strict=True):  # torch's trigamma, in the closed forms, is good to 1e−9
        torch.testing.assert_close(mine, known, rtol=1e-7, atol=1e-8)


@pytest.mark.parametrize("name", [n for n in CLOSED if n not in ("gaussian_chain", "discrete_chain", "state_space")])
def test_exact_posterior_is_bayes_rule(name):
    """log p(z|x) = log p(x, z) − log p(x) at a draw; for the one-latent pairs."""
    pair, batch = moved(name), TRACTABLE[name].batch()
    with pair.scope(), vb.seeded(0), torch.no_grad():
        q, p = pair.run(batch)
        (posterior,) = pair.exact.posterior(*batch.args).items()
        log_joint = p.log_prob_sum()
        right = log_joint - pair.exact.log_evidence(*batch.args)
        torch.testing.assert_close(posterior[1].log_prob(q.nodes[posterior[0]]["value"]).sum(), right)


def joint(pair: vb.Pair, batch: vb.Batch, values: dict[str, torch.Tensor]) -> torch.Tensor:
    """(N,) log p(x, z) at the same z for each datum."""
    return densities(pair.model, pair.guide, batch.args, {name: v.expand(2) for name, v in values.items()})[0]


def test_exact_marginals_of_states():
    pair, batch = moved("discrete_chain"), TRACTABLE["discrete_chain"].batch()
    with pair.scope(), torch.no_grad():
        cases = list(itertools.product(range(2), repeat=3))
        log_p = [joint(pair, batch, {f"z{t + 1}": torch.tensor(z[t]) for t in range(3)}) for z in cases]
        found = pair.exact.posterior(*batch.args)
        probability = torch.stack(log_p).softmax(0)
        for t in range(3):
            one = sum(p for p, case in zip(probability, cases, strict=True) if case[t] == 1)
            torch.testing.assert_close(found[f"z{t + 1}"].probs[:, 1], one)


@pytest.mark.parametrize(("name", "other"), [("z1", "z2"), ("z2", "z1")])
def test_exact_marginals_of_the_gaussian_chain(name, other):
    """∫ p(x, z1, z2) / p(x) over the other one, at a point."""
    pair, batch = moved("gaussian_chain"), TRACTABLE["gaussian_chain"].batch()
    point, step = torch.tensor(0.4), 0.25
    with pair.scope(), torch.no_grad():
        rows = [joint(pair, batch, {name: point, other: z}) for z in torch.arange(-10.0, 10.0, step)]
        marginal = torch.stack(rows).logsumexp(0) + math.log(step)
        found = pair.exact.posterior(*batch.args)[name].log_prob(point)
        torch.testing.assert_close(found.sum(), marginal.sum() - pair.exact.log_evidence(*batch.args))


@pytest.mark.parametrize("name", TRACTABLE)
def test_starts_without_symmetry(name):
    """No gradient is zero at the start, where a wrong sign would not show; but the oldest pair starts at q = prior."""
    pair, batch = TRACTABLE[name].pair(), TRACTABLE[name].batch()
    with pair.scope():
        elbo = vb.tabulate(pair, batch).elbo().sum()
        gradient = torch.cat([g.reshape(-1) for g in torch.autograd.grad(elbo, list(pair.leaves.values()))])
    assert gradient.abs().min() > 1e-3


@pytest.mark.parametrize("name", some_quick(TRACTABLE, {"normal_normal", "gamma_poisson", "three_bernoulli"}))
def test_fits_towards_its_posterior(name):
    torch.set_default_dtype(torch.float32)
    pair, batch = TRACTABLE[name].pair(), TRACTABLE[name].batch()

    def kl(pair: vb.Pair) -> float:
        return float(vb.tabulate(pair, batch).kl().sum())

    data = vb.Dataset({"x": batch.args[0]})
    fit = vb.fit(pair, data, "rloo" if name == "bernoulli_toy" else "trace", steps=200, learning_rate=0.02, progress=False)  # fmt: skip
    if name == "bernoulli_toy":  # whose prior follows q: it goes to the better side for good
        assert float(vb.tabulate(fit.pair, batch).elbo().sum()) > float(vb.tabulate(pair, batch).elbo().sum()) + 0.05
    else:
        assert kl(fit.pair) < 0.9 * kl(pair)
