"""What estimators must be to each other, to the last digits, on the same draws."""

from __future__ import annotations

import pytest
import torch

import vbayes as vb
from tests.models import X, coin, mixed, small_vae
from vbayes.estimator import gradient

pytestmark = pytest.mark.usefixtures("double")
BATCH = vb.Batch((X,))


def gradients(pair: vb.Pair, estimator, batch: vb.Batch = BATCH, seed: int = 3) -> tuple[float, torch.Tensor]:
    """Value and gradient for the draws of a seed, one vector."""
    model, guide = pair.scaled(batch.total)
    with pair.scope(), vb.seeded(seed):
        value = -estimator.loss(model, guide, *batch.args)
    with pair.scope(), vb.seeded(seed):
        drawn = gradient(estimator, model, guide, *batch.args)
    return value, torch.cat([drawn[name].reshape(-1) for name in pair.parameters])


def normal(loc=(0.2, 0.4), log_scale=-0.3) -> vb.Pair:
    pair = vb.pairs.normal_normal().initialise(BATCH)
    return pair.load({"loc": torch.tensor(loc), "scale": torch.tensor(log_scale)})


def vae() -> tuple[vb.Pair, vb.Batch]:
    x = torch.bernoulli(torch.full((4, 6), 0.5), generator=torch.Generator().manual_seed(0))
    batch = vb.Batch((x,), 12)
    return small_vae().initialise(batch), batch


SAME = {
    "VarGrad is RLOO": (vb.VarGrad(3), vb.RLOO(3)),
    "one particle of IWAE is Pathwise": (vb.IWAE(1), vb.Pathwise()),
    "one particle of DReG is STL": (vb.DReG(1), vb.STL()),
    "Renyi(0) is IWAE": (vb.Renyi(4, alpha=0.0), vb.IWAE(4)),
    "CIWAE(0) is IWAE": (vb.CIWAE(4, beta=0.0), vb.IWAE(4)),
    "CIWAE(1) is Pathwise": (vb.CIWAE(4, beta=1.0), vb.Pathwise(4)),
    "MIWAE in one group is IWAE": (vb.MIWAE(4, groups=1), vb.IWAE(4)),
    "MIWAE in groups of one is Pathwise": (vb.MIWAE(4, groups=4), vb.Pathwise(4)),
    "PIWAE in one group is IWAE": (vb.PIWAE(4, groups=1), vb.IWAE(4)),
    "RaoBlackwell is Pathwise where there is a path": (vb.RaoBlackwell(3), vb.Pathwise(3)),
    "Trace is Pathwise where there is a path": (vb.Trace(3), vb.Pathwise(3)),
    "REBAR of no strength is Score": (vb.REBAR(1, strength=0.0), vb.Score(1)),
}


@pytest.mark.parametrize("name", SAME)
def test_two_names_for_one_thing(name):
    one, other = SAME[name]
    pairs = [(coin().initialise(BATCH), BATCH)] if "REBAR" in name else [(normal(), BATCH), vae()]
    if "RLOO" in name:
        pairs.append((mixed().initialise(BATCH), vb.Batch((X,), 10)))
    for pair, batch in pairs:
        (value, g), (other_value, other_g) = gradients(pair, one, batch), gradients(pair, other, batch)
        assert value == pytest.approx(other_value, rel=1e-12)
        torch.testing.assert_close(g, other_g, rtol=1e-10, atol=1e-12)
        assert g.abs().max() > 1e-3


def test_mutants_are_not_the_same():
    for one, other in ((vb.VarGrad(3), vb.Score(3)), (vb.Renyi(4, alpha=0.1), vb.IWAE(4)), (vb.MIWAE(4), vb.IWAE(4))):
        _, g = gradients(normal(), one)
        assert (g - gradients(normal(), other)[1]).abs().max() > 1e-3


def test_wake_sleep_with_one_particle_follows_both_densities():
    """Its surrogate is log p + log q at the draw held constant: ∇ log q alone for this guide."""
    pair = normal()
    _, g = gradients(pair, vb.WakeSleep(1))
    with pair.scope(), vb.seeded(3):
        particles = vb.draw(pair, BATCH, 1, {"log_p_fixed", "log_q_fixed"})
        leaves = [pair.leaves[k] for k in pair.parameters]
        expected = torch.autograd.grad((particles.log_p_fixed + particles.log_q_fixed).sum(), leaves)
    torch.testing.assert_close(g, torch.cat([e.reshape(-1) for e in expected]), rtol=1e-12, atol=0)


@pytest.mark.parametrize("estimator", [vb.STL(), vb.STL(3), vb.DReG(1), vb.DReG(5)], ids=repr)
def test_no_noise_at_the_exact_posterior(estimator):
    at_posterior = normal(loc=(-0.25, 1.0), log_scale=0.5 * float(torch.tensor(0.5).log()))
    assert gradients(at_posterior, estimator)[1].abs().max() < 1e-12
    assert gradients(at_posterior, vb.Pathwise())[1].abs().max() > 0.1


@pytest.mark.parametrize(
    "name", [n for n, k in vb.ESTIMATORS.items() if k.bound in ("IWAE", "MIWAE", "CIWAE", "Rényi", "TVO")]
)
def test_every_bound_is_the_evidence_at_the_exact_posterior(name):
    at_posterior = normal(loc=(-0.25, 1.0), log_scale=0.5 * float(torch.tensor(0.5).log()))
    value, _ = gradients(at_posterior, vb.ESTIMATORS[name]())
    assert value == pytest.approx(float(at_posterior.exact.log_evidence(X)), rel=1e-12)


def test_the_bounds_stand_in_order():
    """For the same draws: ELBO ≤ Rényi(½) ≤ IWAE, MIWAE and CIWAE between."""
    values = {
        e: gradients(normal(), e)[0]
        for e in (vb.Pathwise(8), vb.MIWAE(8), vb.CIWAE(8), vb.Renyi(8), vb.IWAE(8), vb.TVO(8))
    }
    elbo, iwae = values[vb.Pathwise(8)], values[vb.IWAE(8)]
    assert all(elbo < value < iwae for e, value in values.items() if e not in (vb.Pathwise(8), vb.IWAE(8)))


@pytest.mark.parametrize("kind", list(vb.ESTIMATORS.values()), ids=list(vb.ESTIMATORS))
def test_value_is_the_bound_of_the_weights(kind):
    """`bound_of`, which exact truth is computed with, is what `value` says; K draws as Pyro makes them."""
    estimator = kind()
    if estimator.bound == "ELBO":
        assert torch.equal(estimator.bound_of(torch.tensor([1.0, 2.0])), torch.tensor(1.5))
        return
    pair = normal()
    with pair.scope(), vb.seeded(3):
        particles = vb.draw(pair, BATCH, estimator.num_particles, {"log_p", "log_q"})
        bound = estimator.bound_of(particles.log_w.detach())
    assert gradients(pair, estimator)[0] == pytest.approx(float(bound.sum()), rel=1e-12)
