"""Each field of `Particles`, value and gradient, against densities written down by hand at draws that are handed in."""

from __future__ import annotations

import dataclasses

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro.distributions import Bernoulli, Normal

import vbayes as vb
from vbayes.drawing.fields import FIELDS
from vbayes.staging import Recorder

pytestmark = pytest.mark.usefixtures("double")
X = torch.tensor([-0.5, 2.0], dtype=torch.float64)
EPS = torch.tensor([[0.3, -1.2], [0.7, 0.1], [-0.4, 2.0]], dtype=torch.float64)  # of K = 3 particles
LOC, SCALE = torch.tensor([0.2, 0.4], dtype=torch.float64), 0.6


def normal() -> vb.Pair:
    """z ~ N(0, 1), x ~ N(z, 1); q(z) = N(loc, 0.6²)."""

    def model(x):
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", dist.Normal(x.new_zeros(len(x)), 1.0))
            pyro.sample("x", dist.Normal(z, 1.0), obs=x)

    def guide(x):
        loc = pyro.param("loc", lambda: LOC)
        with pyro.plate("data", len(x)):
            pyro.sample("z", dist.Normal(loc, SCALE))

    return vb.Pair(model, guide).initialise(vb.Batch((X,)))


def drawn(pair, needs, noise, *, particles=3, total=None, **asked):
    """Particles of that base noise: all normals, all uniforms, each in the order of the draws."""
    normals, uniforms = (torch.as_tensor(n, dtype=torch.float64).reshape(-1) for n in noise)
    with Recorder((normals, uniforms)):
        return vb.draw(pair, vb.Batch((X,), total), particles, needs, **asked)


def same(got, right):
    torch.testing.assert_close(got, right, rtol=1e-12, atol=1e-12)


def test_every_field_has_its_function():
    assert set(FIELDS) | {"steps"} == {f.name for f in dataclasses.fields(vb.Particles)}


def test_log_densities_live_and_held_constant():
    """Live, the gradient goes through z = loc + 0.6 ε; held constant, it reaches the parameters alone."""
    pair = normal()
    with pair.scope():
        fields = {"log_p", "log_q", "log_p_fixed", "log_q_fixed", "score"}
        particles = drawn(pair, fields, (EPS, []), total=10)
        loc = pair.leaves["loc"]
        gradients = {
            name: torch.autograd.grad(getattr(particles, name).sum(), loc, retain_graph=True, materialize_grads=True)[0]
            for name in fields - {"log_p_fixed"}
        }
    z = LOC + SCALE * EPS
    log_p, log_q = Normal(0.0, 1.0).log_prob(z) + Normal(z, 1.0).log_prob(X), Normal(LOC, SCALE).log_prob(z)
    for name in ("log_p", "log_p_fixed"):
        same(getattr(particles, name), log_p)
    for name in ("log_q", "log_q_fixed", "score"):
        same(getattr(particles, name), log_q)
    assert particles.scale == 5.0 and particles.local == (2,)
    same(gradients["log_p"], (X - 2 * z).sum(0))
    assert not particles.log_p_fixed.requires_grad  # the model has no parameters
    same(gradients["log_q"], torch.zeros(2))
    same(gradients["log_q_fixed"], ((z - LOC) / SCALE**2).sum(0))
    same(gradients["score"], gradients["log_q_fixed"])


def test_beside_a_global_latent_the_scale_is_in_the_densities_but_not_in_the_score():
    def model(x):
        g = pyro.sample("g", dist.Normal(x.new_zeros(()), 1.0))
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", dist.Normal(g, 1.0))
            pyro.sample("x", dist.Normal(z, 1.0), obs=x)

    def guide(x):
        pyro.sample("g", dist.Normal(pyro.param("loc", lambda: torch.tensor(0.3)), 0.5))
        with pyro.plate("data", len(x)):
            pyro.sample("z", dist.Normal(X, 0.6))

    pair = vb.Pair(model, guide).initialise(vb.Batch((X,)))
    with pair.scope():
        particles = drawn(pair, {"log_p", "log_q", "score"}, ([0.5, -1.0, 2.0], []), particles=1, total=10)
    g, z = torch.tensor(0.3 + 0.5 * 0.5), X + 0.6 * torch.tensor([-1.0, 2.0])
    of_g, of_z = Normal(0.3, 0.5).log_prob(g), Normal(X, 0.6).log_prob(z).sum()
    of_data = (Normal(g, 1.0).log_prob(z) + Normal(z, 1.0).log_prob(X)).sum()
    same(particles.log_p, (Normal(0.0, 1.0).log_prob(g) + 5 * of_data)[None])
    same(particles.log_q, (of_g + 5 * of_z)[None])
    same(particles.score, (of_g + of_z)[None])
    assert particles.scale == 1.0 and particles.local == ()


def test_a_site_in_the_kl_is_left_out_of_the_densities():
    pair = normal()
    with pair.scope():
        particles = drawn(pair, {"log_p", "log_q", "kl"}, (EPS, []))
    z = LOC + SCALE * EPS
    same(particles.kl, 0.5 * (SCALE**2 + LOC.square() - 1) - torch.tensor(SCALE).log())
    same(particles.log_p, Normal(z, 1.0).log_prob(X))
    same(particles.log_q, torch.zeros(3, 2))
    assert particles.closed_form == ("z",)


LOGITS = torch.tensor([0.4, -0.8], dtype=torch.float64)
UNIFORMS = torch.tensor([[0.1, 0.9], [0.7, 0.2]], dtype=torch.float64)  # of K = 2; b = 1 where below σ(α)


def two_coins() -> vb.Pair:
    """b ~ Bernoulli(0.3), x ~ N(b, 1); apart from them c ~ Bernoulli(0.5), y = 1 ~ N(c, 2)."""

    def model(x):
        with pyro.plate("data", len(x)):
            b = pyro.sample("b", dist.Bernoulli(0.3 * torch.ones(len(x))))
            c = pyro.sample("c", dist.Bernoulli(0.5 * torch.ones(len(x))))
            pyro.sample("x", dist.Normal(b, 1.0), obs=x)
            pyro.sample("y", dist.Normal(c, 2.0), obs=torch.ones(len(x)))

    def guide(x):
        logits = pyro.param("logits", lambda: LOGITS)
        with pyro.plate("data", len(x)):
            pyro.sample("b", dist.Bernoulli(logits=logits))
            pyro.sample("c", dist.Bernoulli(logits=torch.zeros(len(x))))

    return vb.Pair(model, guide).initialise(vb.Batch((X,)))


def coins_by_hand(uniforms):
    """b, c, and the terms of log w that have to do with each; of K × two sites × two data."""
    b, c = (uniforms[:, 0] < LOGITS.sigmoid()).double(), (uniforms[:, 1] < 0.5).double()
    of_b = Bernoulli(0.3).log_prob(b) + Normal(b, 1.0).log_prob(X) - Bernoulli(logits=LOGITS).log_prob(b)
    of_c = Normal(c, 2.0).log_prob(torch.ones(2))  # prior and guide are the same
    return b, c, of_b, of_c


@pytest.mark.parametrize("downstream", [False, True])
def test_scored_sites_and_their_costs(downstream):
    uniforms = torch.stack([UNIFORMS, UNIFORMS.flip(0)], 1)
    pair = two_coins()
    requires = {"downstream_costs"} if downstream else ()
    with pair.scope():
        particles = drawn(pair, {"log_p", "log_q", "scored"}, ([], uniforms), particles=2, requires=requires)
    b, _, of_b, of_c = coins_by_hand(uniforms)
    first, second = particles.scored
    assert (first.name, second.name) == ("b", "c")
    same(first.log_q, Bernoulli(logits=LOGITS).log_prob(b)[..., None])
    same(first.cost, (of_b if downstream else of_b + of_c)[..., None])
    same(second.cost, (of_c if downstream else of_b + of_c)[..., None])
    same(first.scale, torch.ones(2, 2, 1))
    assert first.log_q.requires_grad and not first.cost.requires_grad
    same(particles.log_w, of_b + of_c)


def test_the_cost_of_a_site_in_the_kl():
    """Its own log q is not in log w then: there is no noise of its own to take out, and its cost has −KL."""
    uniforms = torch.stack([UNIFORMS, UNIFORMS.flip(0)], 1)
    pair = two_coins()
    with pair.scope():
        particles = drawn(pair, {"log_p", "log_q", "kl", "scored"}, ([], uniforms), particles=2)
    b, c, _, of_c = coins_by_hand(uniforms)
    q, p = LOGITS.sigmoid(), torch.tensor(0.3)
    kl = q * (q / p).log() + (1 - q) * ((1 - q) / (1 - p)).log()
    same(particles.kl, kl)  # the other site's is zero
    same(particles.scored[0].scale, torch.zeros(2, 2, 1))
    same(particles.scored[0].cost, (Normal(b, 1.0).log_prob(X) + of_c - kl)[..., None])


def test_latents_and_densities_at_other_values_of_them():
    uniforms = torch.stack([UNIFORMS, UNIFORMS.flip(0)], 1)
    pair = two_coins()
    needs = {"log_p_fixed", "log_q_fixed", "latents", "weigh"}
    with pair.scope():
        particles = drawn(pair, needs, ([], torch.cat([uniforms.flatten(1), torch.full((2, 4), 0.5)], 1)), particles=2,
                          families={"bernoulli"})  # fmt: skip
        b, c, of_b, of_c = coins_by_hand(uniforms)
        first, second = particles.latents
        assert (first.name, first.family, first.value.shape) == ("b", "bernoulli", (2, 2, 1))
        same(first.value, b[..., None])
        same(second.value, c[..., None])
        same(first.parameters["logits"], LOGITS.expand(2, 2)[..., None])
        half = torch.full((2, 2, 1), 0.5, requires_grad=True)
        log_p, log_q = particles.weigh([half, second.value])
        (slope,) = torch.autograd.grad(log_p.sum(), half)
    same(log_q, 0.5 * LOGITS - torch.nn.functional.softplus(LOGITS) + Bernoulli(0.5).log_prob(c))
    prior = 0.5 * torch.tensor(0.3).log() + 0.5 * torch.tensor(0.7).log()
    same(log_p, prior + Normal(0.5, 1.0).log_prob(X) + Bernoulli(0.5).log_prob(c) + of_c)
    same(slope[..., 0], (torch.tensor(0.3).logit() + X - 0.5).expand(2, 2))
    same(particles.log_p_fixed - particles.log_q_fixed, of_b + of_c)


def test_enumerated_is_the_sum_over_all_values():
    pair = two_coins()
    with pair.scope():
        particles = drawn(pair, {"enumerated"}, ([], torch.zeros(40)), particles=2)
    right = 0.0
    for value in (0.0, 1.0):
        b, q = torch.full((2,), value), Bernoulli(logits=LOGITS)
        log_w = Bernoulli(0.3).log_prob(b) + Normal(b, 1.0).log_prob(X) - q.log_prob(b)
        right += q.log_prob(b).exp() @ log_w + 2 * 0.5 * Normal(value, 2.0).log_prob(torch.tensor(1.0))
    same(particles.enumerated, right.expand(2))
    assert particles.local == () and particles.scale == 1.0


def test_asleep_the_guide_is_asked_of_the_models_own_latents_and_data():
    """q(z) = N(x/2, 0.6²), at z̃ = ε₁ and x̃ = z̃ + ε₂, in whose place the data given do not matter."""
    pair = normal()
    own = vb.Pair(pair.model, _halved).initialise(vb.Batch((X,)))
    with own.scope():
        particles = drawn(own, {"sleep_log_q"}, (EPS, []), particles=1)
        (gradient,) = torch.autograd.grad(particles.sleep_log_q.sum(), own.leaves["slope"])
    z, x = EPS[1], EPS[1] + EPS[2]  # the first two normals are the guide's, awake
    same(particles.sleep_log_q, Normal(0.5 * x, SCALE).log_prob(z)[None])
    same(gradient, ((z - 0.5 * x) * x / SCALE**2).sum())


def _halved(x):
    slope = pyro.param("slope", lambda: torch.tensor(0.5))
    with pyro.plate("data", len(x)):
        pyro.sample("z", dist.Normal(slope * x, SCALE))


@pytest.mark.parametrize(
    ("needs", "guides", "models"),
    [
        ({"log_p", "log_q", "kl"}, 1, 1),
        ({"log_p_fixed", "log_q_fixed", "score"}, 1, 1),
        ({"log_q", "log_q_fixed"}, 2, 1),
        ({"log_p", "log_p_fixed"}, 2, 2),
        ({"log_p_fixed", "sleep_log_q"}, 2, 2),
    ],
)
def test_model_and_guide_run_no_more_often_than_they_must(needs, guides, models):
    pair, ran = normal(), {"guide": 0, "model": 0}

    def counted(name, fn):
        def run(*args):
            ran[name] += 1
            return fn(*args)

        return run

    with pair.scope(), vb.seeded(0):
        own = vb.Pair(counted("model", pair.model), counted("guide", pair.guide)).initialise(vb.Batch((X,)))
    with own.scope(), vb.seeded(0):
        ran.update(guide=0, model=0)
        vb.draw(own, vb.Batch((X,)), 1, needs)
    assert ran == {"guide": guides, "model": models}
