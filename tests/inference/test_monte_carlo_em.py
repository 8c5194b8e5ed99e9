"""Learning without a guide: chains that keep the posterior, and parameters that reach the maximum."""

from __future__ import annotations

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro.infer import HMC, MCMC

import vbayes as vb
from tests.models import coin
from vbayes.exact import probabilistic_pca
from vbayes.inference.hmc import move
from vbayes.inference.unconstrained import Unconstrained
from vbayes.validation import validation


def factors() -> torch.Tensor:
    with vb.seeded(0):
        return torch.randn(200, 1) @ torch.tensor([[1.0, -0.5, 0.8]]) + 0.4 * torch.randn(200, 3) + 1.0


@pytest.mark.slow
def test_it_reaches_the_maximum_of_the_likelihood():
    """Against probabilistic PCA's closed form; the chains keep up with θ."""
    x = factors()
    found = vb.monte_carlo_em(
        vb.pairs.probabilistic_pca(3, 1), x, steps=200, updates=3, learning_rate=0.02, progress=False
    )
    pair = vb.pairs.probabilistic_pca(3, 1).initialise(vb.Batch((x,)))
    pair = pair.at({name: value for name, value in found.parameters.items()})
    reached = vb.log_evidence(pair, x)
    best = probabilistic_pca.maximum_likelihood(x.double(), 1)
    top = float(best.log_evidence(x.double()).sum())
    assert reached.direction == "exact"
    assert 0 <= (top - reached.value) / len(x) < 0.02
    assert top - vb.log_evidence(vb.pairs.probabilistic_pca(3, 1), x).value > 0.5 * len(x)
    assert 0.8 < found.history.acceptance.tail(100).mean() < 0.97


@pytest.mark.slow
def test_moves_keep_the_posterior_and_agree_with_pyros():
    """Gaussian posterior, known; each datum's chain is accepted by itself, Pyro's all at once."""
    x = torch.tensor([-0.5, 2.0])
    pair = vb.pairs.normal_normal().initialise(vb.Batch((x,))).guided_by_prior(vb.Batch((x,)))
    with pair.scope(), torch.no_grad(), vb.seeded(0), validation(False):
        space = Unconstrained(pair, vb.Batch((x,)))
        target, state = space.target(2000), space.draws(2000)
        seen = target(state)
        for _ in range(20):
            state, seen, taken = move(target, state, seen, 1.0, torch.tensor(0.15))
    assert taken.shape == (2000, 2) and 0.9 < taken.mean() < 1
    z = state[..., 0]
    assert ((z.mean(0) - x / 2).abs() < 4 * (0.5 / 2000) ** 0.5).all()
    torch.testing.assert_close(z.var(0), torch.full((2,), 0.5), rtol=0.13, atol=0)  # 4 standard errors
    with vb.seeded(1):
        run = MCMC(HMC(potential_fn=lambda v: (0.5 * v["z"].square() + 0.5 * (x - v["z"]).square()).sum(), step_size=0.15, num_steps=10),
                   num_samples=600, warmup_steps=50, initial_params={"z": torch.zeros(2)}, disable_progbar=True)  # fmt: skip
        run.run()
    theirs = run.get_samples()["z"]
    assert ((theirs.mean(0) - z.mean(0)).abs() < 0.12).all() and ((theirs.var(0) - z.var(0)).abs() < 0.15).all()


@pytest.mark.slow
def test_a_prior_for_a_guide():
    """log p − log q is the likelihood, and the parameters of the old guide are gone."""
    x = torch.tensor([-0.5, 2.0])
    pair = vb.pairs.vae(4, hidden=3, latent=2)
    batch = vb.Batch(((torch.rand(5, 4, generator=torch.Generator().manual_seed(0)) > 0.5).float(),))
    prior = pair.guided_by_prior(batch)
    assert all(name.startswith("decoder") for name in prior.parameters) and len(prior.parameters) == 4
    assert all(torch.equal(value, pair.parameters[name]) for name, value in prior.parameters.items())
    with prior.scope(), vb.seeded(0):
        q, p = prior.run(batch)
        p.compute_log_prob()
        torch.testing.assert_close(p.log_prob_sum() - q.log_prob_sum(), p.nodes["x"]["log_prob"].sum())
    assert set(q.nodes) & {"x"} == set() and vb.check(prior, *batch.args, show=False).sites
    known = vb.pairs.normal_normal().initialise(vb.Batch((x,)))
    with known.scope():
        exact = float(known.exact.log_evidence(x))
    found = vb.log_evidence(known.guided_by_prior(vb.Batch((x,))), x, "ais", num_particles=500, progress=False)
    assert abs(found.value - exact) < 4 * found.se < 0.2


@pytest.mark.parametrize("batch_size", [None, 60])
def test_resuming_is_never_having_stopped(batch_size):
    options = {"batch_size": batch_size, "learning_rate": 0.01, "seed": 3, "progress": False}
    whole = vb.monte_carlo_em(vb.pairs.probabilistic_pca(3, 1), factors(), steps=9, **options)
    half = vb.monte_carlo_em(vb.pairs.probabilistic_pca(3, 1), factors(), steps=5, **options).resume(
        steps=4, progress=False
    )
    assert half.history.log_joint.tolist() == whole.history.log_joint.tolist()
    assert torch.equal(half.chains, whole.chains) and half.chains.shape == (1, 200, 1)
    assert half.latents()["z"].shape == (1, 200, 1)
    assert (
        whole.chains - vb.monte_carlo_em(vb.pairs.probabilistic_pca(3, 1), factors(), steps=0, **options).chains
    ).abs().min() > 0


def test_nothing_random_leaks():
    with vb.seeded(7):
        before = torch.get_rng_state()
        vb.monte_carlo_em(vb.pairs.probabilistic_pca(3, 1), factors(), steps=2, progress=False)
        assert torch.equal(before, torch.get_rng_state())


def test_what_it_can_not_learn():
    x = factors()
    with pytest.raises(vb.errors.BadInput, match="updates=0 is below 1. Wanted: an integer"):
        vb.monte_carlo_em(vb.pairs.probabilistic_pca(3, 1), x, updates=0)
    with pytest.raises(vb.errors.Unsuitable, match="is discrete"):
        vb.monte_carlo_em(coin(), torch.tensor([-0.5, 2.0]), steps=1)

    def shared(x):
        z = pyro.sample("z", dist.Normal(pyro.param("m", lambda: torch.tensor(0.0)), 1.0))
        with pyro.plate("data", len(x)):
            pyro.sample("x", dist.Normal(z, 1.0).expand([3]).to_event(1), obs=x)

    pair = vb.Pair(shared, pyro.infer.autoguide.AutoNormal(shared))
    with pytest.raises(vb.errors.Unsuitable, match="batch_size=None"):
        vb.monte_carlo_em(pair, x, batch_size=50)
    assert vb.monte_carlo_em(pair, x, steps=3, progress=False).chains.shape == (1, 1)
    with pytest.raises(vb.errors.NonFinite, match="not finite at step") as raised:
        vb.monte_carlo_em(vb.pairs.vae(3, output="gaussian"), 0 * x, steps=400, learning_rate=50.0, progress=False)
    kept = raised.value.fit
    assert kept.steps == raised.value.step - 1 and all(
        torch.isfinite(value).all() for value in kept.parameters.values()
    )
