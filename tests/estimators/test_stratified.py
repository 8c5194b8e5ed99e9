"""Mixtures and categoricals as latents: what an estimator sees of them, and what a draw from each component is worth."""

from __future__ import annotations

import pyro
import pyro.distributions as dist
import pytest
import torch

import vbayes as vb
from tests import tractable
from vbayes.laboratory.replicas import Replicas
from vbayes.staging import draw_noise, replicate

pytestmark = pytest.mark.usefixtures("double")
MIXTURE = {"latents", "log_q_fixed"}
WEIGHTS = torch.tensor([0.3, 0.7])


def guide_of(make):
    """A pair of N(0, 1) and a guide whose one site is what `make` returns, for two data."""

    def model(x):
        with pyro.plate("data", 2):
            z = pyro.sample("z", dist.Normal(torch.zeros(2), 1.0).to_event(1))
            pyro.sample("x", dist.Normal(z.sum(-1), 1.0), obs=x)

    def guide(x):
        with pyro.plate("data", 2):
            pyro.sample("z", make())

    return vb.Pair(model, guide), vb.Batch((torch.tensor([0.3, -0.8]),))


def at(*shape):
    return torch.linspace(-1.0, 1.5, torch.Size(shape).numel()).reshape(shape)


def mixed(*components):
    return dist.MixtureSameFamily(dist.Categorical(WEIGHTS), *components)


FORMS = {
    "independent normals": lambda: mixed(dist.Normal(at(2, 2, 2), 0.5 + at(2, 2, 2).square()).to_event(1)),
    "for all data the same": lambda: mixed(dist.Normal(at(2, 2), 0.8).to_event(1)),
    "full normals": lambda: mixed(dist.MultivariateNormal(at(2, 2, 2), scale_tril=torch.tensor([[0.9, 0.0], [0.5, 0.3]]))),
}  # fmt: skip


@pytest.mark.parametrize("form", FORMS)
def test_the_parameters_of_a_mixture_are_its_density(form):
    pair, batch = guide_of(FORMS[form])
    with pair.initialise(batch).scope(), vb.seeded(0):
        seen = vb.draw(pair, batch, 5, MIXTURE, families={"normal_mixture"})
    (site,) = seen.latents
    logits, loc, root = (site.parameters[name] for name in ("logits", "loc", "scale_tril"))
    assert (logits.shape, loc.shape, root.shape) == ((5, 2, 2), (5, 2, 2, 2), (5, 2, 2, 2, 2))
    each = torch.distributions.MultivariateNormal(loc, scale_tril=root).log_prob(site.value.unsqueeze(-2))
    torch.testing.assert_close((logits.log_softmax(-1) + each).logsumexp(-1), seen.log_q_fixed)


@pytest.mark.parametrize(("make", "message"), [
    (lambda: mixed(dist.Gamma(1 + at(2, 2, 2).square(), 1.0).to_event(1)), r"MixtureSameFamily\. This estimator needs"),
    (lambda: mixed(dist.Normal(at(2, 2, 2), 1.0)).to_event(1), "consists of several MixtureSameFamilys"),
])  # fmt: skip
def test_mixtures_of_which_it_knows_nothing(make, message):
    pair, batch = guide_of(make)
    with pair.initialise(batch).scope(), vb.seeded(0), pytest.raises(vb.errors.Unsuitable, match=message):
        vb.Stratified().draw(pair, batch)


def test_a_mixture_that_hangs_on_another_draw():
    def model(x):
        for name in ("a", "b"):
            pyro.sample(name, dist.Normal(0.0, 1.0))

    def guide(x):
        a = pyro.sample("a", dist.Normal(0.0, 1.0))
        pyro.sample("b", mixed(dist.Normal(torch.stack([a, -a]), 1.0)))

    pair, batch = vb.Pair(model, guide), vb.Batch((torch.zeros(()),))
    with (
        pair.initialise(batch).scope(),
        vb.seeded(0),
        pytest.raises(vb.errors.Unsuitable, match="depends on the draw of a"),
    ):
        vb.Stratified().draw(pair, batch)


def drawn(pair, estimator, batch, count):
    """Gradients (count, P), and values (count)."""
    program = Replicas(pair, estimator, batch).program
    with vb.seeded(0):
        noise = draw_noise(program.sizes, count, torch.zeros(()))
    gradients, values = replicate(program, pair.parameters, noise, batch.args)
    return torch.cat([gradients[name].reshape(count, -1) for name in pair.leaves], 1), values


def exact(pair, batch):
    with pair.scope():
        elbo = vb.tabulate(pair, batch).elbo().sum()
        return torch.cat([g.reshape(-1) for g in torch.autograd.grad(elbo, list(pair.leaves.values()))])


@pytest.mark.slow
def test_two_mixtures_make_four_combinations():
    def model(x):
        a, b = (pyro.sample(name, dist.Normal(torch.zeros(()), 1.0)) for name in "ab")
        pyro.sample("x", dist.Normal(a * b, 0.7), obs=x)

    def guide(x):
        for name, shift in (("a", 0.2), ("b", -0.3)):
            logits = pyro.param(f"{name}.logits", lambda: torch.tensor([0.4, -0.2]))
            loc = pyro.param(f"{name}.loc", lambda shift=shift: torch.tensor([-0.9, 0.8]) + shift)
            pyro.sample(name, dist.MixtureSameFamily(dist.Categorical(logits=logits), dist.Normal(loc, 0.6)))

    batch = vb.Batch((torch.tensor(1.2),))
    pair = vb.Pair(model, guide).initialise(batch)
    found, _ = drawn(pair, vb.Stratified(), batch, 20_000)
    z = (found.mean(0) - exact(pair, batch)) / (found.std(0) / len(found) ** 0.5)
    assert z.abs().max() < 5


@pytest.mark.slow
def test_its_noise_is_that_within_components():
    """Var = Σ α_c² Var_c[log w], by the table, where a draw from q has Var_q[log w]; and the guide's gradient less than half of the score function's, of as many draws."""
    pair, batch = tractable.pair_of("bimodal"), tractable.batch_of("bimodal")
    with pair.scope(), torch.no_grad():
        table = tractable.table_of("bimodal", pair)
        logits, loc, scale = (pyro.param(name) for name in ("logits", "loc", "scale"))
        component = (dist.Normal(loc, scale).log_prob(table.values["z"]) + table.log_measure.unsqueeze(-1)).exp()
        log_w = table.log_w.unsqueeze(-1)

        def variance(weight):
            return (weight * (log_w - (weight * log_w).sum(0)).square()).sum(0)

        right = float((logits.softmax(-1).square() * variance(component)).sum())
        plain = float(variance(table.weight.unsqueeze(-1)).sum())
    gradients, values = drawn(pair, vb.Stratified(), batch, 40_000)
    spread = (values - values.mean()).square()
    assert abs(float(spread.mean()) - right) < 5 * float(spread.std()) / len(values) ** 0.5
    assert right < 0.6 * plain
    scored, _ = drawn(pair, vb.RLOO(2), batch, 40_000)
    guide = slice(0, -1)  # the last is the model's
    assert list(pair.leaves)[-1] == "bend" and gradients[:, guide].var(0).sum() < 0.4 * scored[:, guide].var(0).sum()


def test_a_categorical_has_no_noise_in_its_guide():
    """One site, all of whose values are counted: each draw has the exact gradient there, and in the model it has not."""
    pair, batch = tractable.pair_of("gaussian_mixture"), tractable.batch_of("gaussian_mixture")
    found, _ = drawn(pair, vb.MeasureValued(), batch, 20)
    guide = torch.cat([torch.full((leaf.numel(),), name == "assignment") for name, leaf in pair.leaves.items()])
    torch.testing.assert_close(found[:, guide], exact(pair, batch)[guide].expand(20, -1))
    assert found[:, ~guide].std(0).max() > 0.1
