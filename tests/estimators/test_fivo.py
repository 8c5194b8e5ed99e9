"""The bound of a particle filter, against Kalman's filter, against all it can do where that can be summed, and against IWAE."""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch
from torch.distributions import Normal

import vbayes as vb
from tests import tractable
from vbayes.estimators.weights import chosen, log_mean_exp
from vbayes.laboratory.replicas import Replicas
from vbayes.staging import Recorder, draw_noise, replicate, stage

pytestmark = pytest.mark.usefixtures("double")
X = torch.tensor([[0.9, -0.4, 0.3], [-1.2, 0.8, 0.5]], dtype=torch.float64)


def ready(x: torch.Tensor) -> tuple[vb.Pair, vb.Batch]:
    batch = vb.Batch((x,))
    return vb.pairs.state_space(x.shape[1]).initialise(batch), batch


def drawn(pair: vb.Pair, estimator: vb.Estimator, batch: vb.Batch, count: int) -> tuple[torch.Tensor, torch.Tensor]:
    """(count,) values and (count, P) gradients, of a captured program."""
    program = stage(pair, estimator, batch)
    with vb.seeded(0):
        noise = draw_noise(program.sizes, count, batch.args[0])
    gradients, values = replicate(program, pair.parameters, noise, batch.args)
    return values, torch.stack([gradients[name] for name in pair.leaves], 1)


def off(draws: torch.Tensor, right: torch.Tensor) -> torch.Tensor:
    """By how many standard errors their mean is."""
    return (draws.mean(0) - right) / (draws.std(0) / len(draws) ** 0.5)


@pytest.mark.parametrize("name", ["normal_normal", "gaussian_chain"])
def test_with_data_at_the_end_it_is_iwae(name):
    """On the same draws, to all digits: nobody is chosen after the last step. Its base noise comes site by site, for all particles."""
    pair, batch = tractable.pair_of(name), tractable.batch_of(name)
    with vb.seeded(0):
        noise = torch.randn(3, 2 if name == "gaussian_chain" else 1, 2)
    found = []
    for method in (vb.FIVO(3), vb.FIVO(3, choice_term=True), vb.IWAE(3)):
        order = noise if isinstance(method, vb.IWAE) else noise.movedim(1, 0)
        with pair.scope(), Recorder((order.flatten(), torch.zeros(0))):
            estimate = method.estimate(method.draw(pair, batch))
            found.append((estimate.value, *torch.autograd.grad(estimate.surrogate.sum(), list(pair.leaves.values()))))
    for other in found[:2]:
        for mine, right in zip(other, found[2], strict=True):
            torch.testing.assert_close(mine, right, rtol=1e-12, atol=1e-12)


@dataclass(frozen=True)
class AtNeed(vb.FIVO):
    """Particles are chosen anew where fewer than half of them count, as a user would write it."""

    def resample(self, log_w):
        few = log_w.softmax(0).square().sum(0) > 2 / len(log_w)
        stay = torch.arange(len(log_w)).view(-1, *[1] * few.dim()).expand_as(log_w)
        return torch.where(few, chosen(log_w), stay), torch.where(few, log_mean_exp(log_w), log_w)


@dataclass(frozen=True)
class Forgetful(vb.FIVO):
    """A mutant: who was chosen by their weights keeps them."""

    def resample(self, log_w):
        who = chosen(log_w)
        return who, log_w.gather(0, who)


@dataclass(frozen=True)
class Blind(vb.FIVO):
    """A mutant: all are chosen alike."""

    def resample(self, log_w):
        return chosen(torch.zeros_like(log_w)), log_mean_exp(log_w).expand_as(log_w)


@pytest.mark.parametrize("method", [vb.FIVO(2), pytest.param(AtNeed(2), marks=pytest.mark.slow)])
def test_its_likelihood_is_unbiased_and_its_mean_below(method):
    """E exp(value) = p(x) by Kalman's filter, also where particles are chosen only at need."""
    evidence, values = evidence_and_values(method)
    likelihood = (values - evidence).exp()
    assert abs(off(likelihood, 1.0)) < 5 and likelihood.std() / len(values) ** 0.5 < 0.01
    assert values.mean() < evidence - 5 * values.std() / len(values) ** 0.5


@pytest.mark.parametrize("mutant", [Forgetful(2), pytest.param(Blind(2), marks=pytest.mark.slow)])
def test_not_with_weights_that_are_handed_on_wrongly(mutant):
    evidence, values = evidence_and_values(mutant)
    assert abs(off((values - evidence).exp(), 1.0)) > 5


def evidence_and_values(method: vb.Estimator) -> tuple[torch.Tensor, torch.Tensor]:
    pair, batch = ready(X[:1, :2])
    with pair.scope(), torch.no_grad():
        evidence = pair.exact.log_evidence(*batch.args)
    return evidence, drawn(pair, method, batch, 20_000)[0]


def test_who_is_chosen_hangs_on_the_weights():
    log_w = torch.tensor([[0.1, 0.7], [0.2, 0.3], [0.7, 0.0]]).log()
    with vb.seeded(0):
        who = torch.stack([chosen(log_w) for _ in range(3000)]).flatten(0, 1)
    for row in (0, 1):
        share = torch.bincount(who[:, row], minlength=3) / len(who)
        right = log_w[:, row].exp()
        assert ((share - right).abs() <= 5 * (right * (1 - right) / len(who)).sqrt()).all()


def summed(pair: vb.Pair, x: torch.Tensor, nodes: int) -> torch.Tensor:
    """() E of the bound of two particles in two steps, for one series: over a grid of the four draws and over all that may be chosen; live in the parameters."""
    points, weights = (torch.from_numpy(part) for part in np.polynomial.hermite_e.hermegauss(nodes))
    slope, link, gain, scale = (pyro.param(name) for name in ("slope", "link", "gain", "scale"))
    first = torch.stack(torch.meshgrid(points, points, indexing="ij")).flatten(1)
    mass = torch.outer(weights, weights).flatten() / weights.sum() ** 2

    def weigh(before, datum, noise):
        q = Normal(link * before + gain * datum, scale)
        z = q.loc + scale * noise
        return z, Normal(slope * before, 0.7).log_prob(z) + Normal(z, 0.5).log_prob(datum) - q.log_prob(z)

    z, log_w = weigh(torch.zeros(()), x[0], first)  # (2, G)
    bound = (mass * log_mean_exp(log_w)).sum()
    for one in (0, 1):
        for other in (0, 1):
            chance = log_w.log_softmax(0)[one] + log_w.log_softmax(0)[other]
            before = torch.stack([z[one], z[other]])
            _, later = weigh(before.unsqueeze(-1), x[1], first.unsqueeze(1))
            bound = bound + (mass * chance.exp() * (log_mean_exp(later) @ mass)).sum()
    return bound


def test_gradient_is_that_of_the_bound_with_the_choice_and_not_without():
    """Two particles, two steps: everything that can happen is summed."""
    pair, batch = ready(X[:1, :2])
    with pair.scope():
        bound = summed(pair, X[0, :2], 16)
        finer = summed(pair, X[0, :2], 24)
        right = torch.stack(torch.autograd.grad(finer, list(pair.leaves.values())))
    torch.testing.assert_close(bound, finer, rtol=1e-5, atol=1e-5)
    values, whole = drawn(pair, vb.FIVO(2, choice_term=True), batch, 30_000)
    assert abs(off(values, finer.detach())) < 5
    assert off(whole, right).abs().max() < 5
    assert off(whole, 1.1 * right).abs().max() > 10
    _, usual = drawn(pair, vb.FIVO(2), batch, 30_000)
    assert off(usual, right).abs().max() > 10
    assert usual.var(0).sum() < 0.5 * whole.var(0).sum()


def summed_over_states(pair: vb.Pair, x: torch.Tensor) -> torch.Tensor:
    """() E of the bound of two particles in two steps of a hidden Markov model, for one series: over all states and all that may be chosen."""
    transition, means, states = (pyro.param(name) for name in ("transition", "means", "states"))
    log_q, moves = states[0].log_softmax(-1), transition.log_softmax(-1)
    seen = Normal(means, 0.8).log_prob(x.unsqueeze(-1))  # (T, states)
    first, bound = torch.full((2,), 0.5).log() + seen[0] - log_q[0], torch.zeros(())
    both = list(itertools.product(range(2), repeat=2))
    for z in both:
        log_w = torch.stack([first[z[0]], first[z[1]]])
        drawn, chances = log_q[0][list(z)].sum(), log_w.log_softmax(0)
        bound = bound + drawn.exp() * log_mean_exp(log_w)
        for a, after in itertools.product(both, both):
            later = torch.stack([moves[z[a[k]], after[k]] + seen[1, after[k]] - log_q[1, after[k]] for k in (0, 1)])
            chance = drawn + chances[list(a)].sum() + log_q[1][list(after)].sum()
            bound = bound + chance.exp() * log_mean_exp(later)
    return bound


def test_without_a_path_its_gradient_has_the_score():
    """Discrete states: all that can happen is summed. The score's half taken away is seen."""
    x = torch.tensor([[-0.9, 1.1]])
    batch = vb.Batch((x,))
    pair = vb.pairs.discrete_chain(1, 2).initialise(batch)
    with pair.scope():
        bound = summed_over_states(pair, x[0])
        right = torch.cat([g.flatten() for g in torch.autograd.grad(bound, list(pair.leaves.values()))])
    program = stage(pair, vb.FIVO(2, choice_term=True), batch)
    with vb.seeded(0):
        noise = draw_noise(program.sizes, 20_000, x)
        found, values = replicate(program, pair.parameters, noise, batch.args)
    whole = torch.cat([found[name].flatten(1) for name in pair.leaves], 1)
    assert abs(off(values, bound.detach())) < 5
    assert off(whole, right).nan_to_num().abs().max() < 5 and off(whole, 0.5 * right).abs().max() > 10


@pytest.mark.slow
def test_it_is_compiled_and_claims_what_it_keeps():
    pair, batch = ready(X[:, :2])
    replicas = Replicas(pair, vb.FIVO(2), batch, compiled=True)
    assert replicas.why_slow is None
    with vb.seeded(0):
        noise = draw_noise(replicas.sizes, 8, X)
    compiled = torch.cat(list(replicas.gradients(pair, noise, 0)))
    gradients, _ = replicate(replicas.program, pair.parameters, noise, batch.args)
    torch.testing.assert_close(compiled, torch.stack([gradients[name] for name in pair.leaves], 1))
    assert vb.FIVO().unbiased_in == frozenset() and vb.FIVO(choice_term=True).unbiased_in == {"model", "guide"}
    assert vb.FIVO(choice_term=True).objective == vb.FIVO().objective != vb.FIVO(8).objective


class Square(torch.autograd.Function):
    """Nothing that `vmap` could do."""

    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x * x

    @staticmethod
    def backward(ctx, grad):
        return 2 * ctx.saved_tensors[0] * grad


@pytest.mark.parametrize(
    ("latent", "curve"), [(dist.Normal, torch.square), (dist.Gamma, torch.square), (dist.Normal, Square.apply)]
)
def test_a_program_is_the_particles_one_by_one(latent, curve):
    """Side by side; and where a draw takes several numbers of base noise, or torch can't map the model."""

    def model(x):
        z = torch.tensor(1.0)
        for t in range(2):
            z = pyro.sample(f"z{t}", latent(1.0 + curve(z), 1.0))
            pyro.sample(f"x{t}", dist.Normal(z, 1.0), obs=x[t])

    def guide(x):
        a = pyro.param("a", lambda: torch.tensor(0.5))
        for t in range(2):
            pyro.sample(f"z{t}", latent(a.exp(), 1.0))

    pair, batch = vb.Pair(model, guide), vb.Batch((X[0, :2],))
    program = stage(pair.initialise(batch), vb.FIVO(3), batch)  # which holds it against Pyro's numbers
    assert program.static
    squares = [
        node.meta["val"].shape for node in program.graph.graph.nodes if node.target is torch.ops.aten.pow.Tensor_Scalar
    ]
    assert ((3,) in squares) == (latent is dist.Normal and curve is torch.square)


@pytest.mark.slow
def test_it_is_nearer_to_the_evidence_than_iwae():
    """Four particles, ten steps, and a guide that goes as the prior does: of weights that are never looked at on the way one is nearly all."""
    with vb.seeded(1):
        x = torch.randn(1, 10)
    pair, batch = ready(x)
    pair.load({"link": torch.tensor(0.8), "gain": torch.tensor(0.0), "scale": torch.tensor(0.7).log()})
    with pair.scope(), torch.no_grad():
        evidence = pair.exact.log_evidence(x)
    fivo, iwae = (drawn(pair, method, batch, 2000)[0] for method in (vb.FIVO(4), vb.IWAE(4)))
    apart = ((fivo.var() + iwae.var()) / 2000).sqrt()
    assert fivo.mean() > iwae.mean() + 20 * apart
    assert evidence - fivo.mean() < 0.5 * (evidence - iwae.mean())
