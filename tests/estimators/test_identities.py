"""What estimators must be to each other, to the last digits, on the same draws."""

from __future__ import annotations

import pyro
import pyro.distributions as dist
import pytest
import torch

import vbayes as vb
from tests.models import X, coin, mixed, small_vae
from vbayes.estimators.base import gradient

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
    "PathGradient is STL": (vb.PathGradient(3), vb.STL(3)),
    "Renyi(0) is IWAE": (vb.Renyi(4, alpha=0.0), vb.IWAE(4)),
    "CIWAE(0) is IWAE": (vb.CIWAE(4, beta=0.0), vb.IWAE(4)),
    "CIWAE(1) is Pathwise": (vb.CIWAE(4, beta=1.0), vb.Pathwise(4)),
    "MIWAE in one group is IWAE": (vb.MIWAE(4, groups=1), vb.IWAE(4)),
    "MIWAE in groups of one is Pathwise": (vb.MIWAE(4, groups=4), vb.Pathwise(4)),
    "PIWAE in one group is IWAE": (vb.PIWAE(4, groups=1), vb.IWAE(4)),
    "RaoBlackwell is Pathwise where there is a path": (vb.RaoBlackwell(3), vb.Pathwise(3)),
    "Trace is Pathwise where there is a path": (vb.Trace(3), vb.Pathwise(3)),
    "Beta of 1 is AnalyticKL": (vb.Beta(3, beta=1.0), vb.AnalyticKL(3)),
    "REBAR of no strength is Score": (vb.REBAR(1, strength=0.0), vb.Score(1)),
    "RELAX is REBAR before it learns": (vb.RELAX(2), vb.REBAR(2)),
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
    if kind.bound_of is vb.Estimator.bound_of:  # no function of the weights
        assert estimator.bound in ("DAIS", "FIVO", "Fisher divergence")
        return
    pair = normal()
    with pair.scope(), vb.seeded(3):
        particles = vb.draw(pair, BATCH, estimator.num_particles, {"log_p", "log_q"})
        bound = estimator.bound_of(particles.log_w.detach())
    assert gradients(pair, estimator)[0] * estimator.objective.sign == pytest.approx(float(bound.sum()), rel=1e-12)


@pytest.mark.parametrize("beta", [0.0, 0.5, 4.0])
def test_beta_weighs_the_kl_and_reports_the_elbo(beta):
    """∇[E − β KL] = ∇ELBO − (β − 1) ∇KL on the same draws, and the value is the ELBO's whatever β."""
    for pair, batch in ((normal(), BATCH), vae()):
        value, g = gradients(pair, vb.Beta(beta=beta), batch)
        plain, of_elbo = gradients(pair, vb.AnalyticKL(), batch)
        with pair.scope(), vb.seeded(3):
            particles = vb.Beta().draw(pair, batch)
            leaves = [pair.leaves[k] for k in pair.parameters]
            kl = torch.autograd.grad((particles.kl * particles.scale).sum(), leaves, materialize_grads=True)
        assert value == pytest.approx(plain, rel=1e-12)
        expected = of_elbo - (beta - 1) * torch.cat([e.reshape(-1) for e in kl])
        torch.testing.assert_close(g, expected, rtol=1e-10, atol=1e-12)
        assert (g - of_elbo).abs().max() > 1e-3


def test_the_kl_is_warmed_up():
    """In step t of a warm-up over 4 the gradient is that of β t / 4, on the same draws; a look at the value is no step."""
    pair, warm = normal(), vb.Beta(beta=2.0, warm_up=4)
    for t in range(6):
        _, expected = gradients(pair, vb.Beta(beta=2.0 * min(1.0, t / 4)))
        torch.testing.assert_close(gradients(pair, warm)[1], expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("compile", [True, False])
def test_a_fit_counts_the_steps_of_a_warm_up(compile):
    fit = vb.fit(normal(), X, vb.Beta(beta=2.0, warm_up=40), steps=25, compile=compile, progress=False)
    fit = fit.resume(steps=5, progress=False)
    (steps,) = (value for name, value in fit.pair.state().items() if name.endswith(".steps"))
    assert steps == 30


def test_asleep_the_guide_follows_what_the_model_draws():
    """Its gradient is that of E_p[log q(z)], in closed form for z ~ N(0, 1) and q = N(loc, scale²)."""
    loc, log_scale = torch.tensor([0.2, 0.4]), torch.tensor(-0.3)
    many = vb.Batch(
        (X.repeat(50),)
    )  # each row draws for itself: as good as fifty particles, and in one run of the model
    pair = vb.pairs.normal_normal(100).initialise(many).load({"loc": loc.repeat(50), "scale": log_scale})
    with vb.seeded(0), pair.scope():
        drawn = []
        for _ in range(400):
            asleep = vb.SleepPhase().draw(pair, many).sleep_log_q.sum() / 50
            of_loc, of_scale = torch.autograd.grad(asleep, [pair.leaves[k] for k in ("loc", "scale")])
            drawn.append(torch.cat([of_loc.reshape(50, 2).sum(0), of_scale.reshape(1)]))
    drawn = torch.stack(drawn)
    variance = (2 * log_scale).exp()
    expected = torch.cat([-loc / variance, ((1 + loc.square()) / variance - 1).sum()[None]])
    se = drawn.std(0) / len(drawn) ** 0.5
    assert ((drawn.mean(0) - expected).abs() < 4 * se).all() and (se < 0.05).all()
    assert (drawn.mean(0) - 1.2 * expected).abs().max() > 4 * se.max()


def test_asleep_the_data_are_the_models_own():
    """A guide that copies x into its location: then log q(z̃|x̃) is of x̃ near z̃, not of the data given, which are far away."""

    def model(x):
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", dist.Normal(x.new_zeros(len(x)), 1.0))
            pyro.sample("x", dist.Normal(z, 1e-3), obs=x)

    def guide(x):
        scale = pyro.param("scale", lambda: torch.tensor(0.1))
        with pyro.plate("data", len(x)):
            pyro.sample("z", dist.Normal(x, scale))

    far = vb.Batch((torch.full((5,), 1e6),))
    pair = vb.Pair(model, guide).initialise(far)
    with pair.scope(), vb.seeded(0):
        assert (vb.draw(pair, far, 1, {"sleep_log_q"}).sleep_log_q > 0).all()
