"""Tabulated truth for pairs of every shape: events, plates of their own, masks, scales, autoguides."""

from __future__ import annotations

import math

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro.infer.autoguide import AutoDelta, AutoMultivariateNormal, AutoNormal
from torch.distributions import constraints, kl_divergence

import vbayes as vb
from tests.models import X

pytestmark = pytest.mark.usefixtures("double")
BATCH = vb.Batch((X,))


def elbo_of(pair: vb.Pair, batch: vb.Batch = BATCH) -> torch.Tensor:
    with pair.initialise(batch).scope():
        return vb.tabulate(pair, batch).elbo().detach()


def averaged(pair: vb.Pair, batch: vb.Batch = BATCH, draws: int = 2000) -> tuple[torch.Tensor, torch.Tensor]:
    """Mean of log w and its standard error."""
    with pair.initialise(batch).scope(), vb.seeded(0), torch.no_grad():
        log_w = vb.draw(pair, batch, draws, {"log_p", "log_q"}).log_w
    return log_w.mean(0), log_w.std(0) / draws**0.5


def agrees(pair: vb.Pair, batch: vb.Batch = BATCH) -> torch.Tensor:
    """The table's ELBO, having been held against draws."""
    (mean, se), elbo = averaged(pair, batch), elbo_of(pair, batch)
    assert elbo.shape == mean.shape
    assert ((elbo - mean).abs() <= 5 * se + 1e-9).all(), f"{elbo} against {mean} ± {se}"
    assert (se < 0.1).all()
    return elbo


def positive(name: str, *start: float) -> torch.Tensor:
    return pyro.param(name, lambda: torch.tensor(start), constraint=constraints.positive)


def make(model, guide, name="made") -> vb.Pair:
    return vb.Pair(model, guide, name=name)


@pytest.mark.on_cpu
def test_data_are_taken_as_by_every_other_verb():
    pair = vb.pairs.normal_normal()
    right = vb.tabulate(pair, BATCH).log_p
    fit = vb.fit(pair, X, steps=0, progress=False)
    for table in (vb.tabulate(pair, X), vb.tabulate(pair, vb.Dataset({"x": X})), vb.tabulate(fit), vb.tabulate(fit, X)):
        assert torch.equal(table.log_p, right)
    with pair.initialise(BATCH).scope(), vb.seeded(0):
        one = vb.draw(pair, X, 2, {"log_p"}).log_p
    with pair.scope(), vb.seeded(0):
        assert torch.equal(one, vb.draw(pair, BATCH, 2, {"log_p"}).log_p)
    assert vb.check(pair, vb.Dataset({"x": X}), show=False) == vb.check(pair, X, show=False)
    with pytest.raises(vb.errors.BadInput, match="data=None is nothing. Wanted: data"):
        vb.tabulate(pair)


@pytest.mark.slow
def test_events_multiply_up():
    """A Bernoulli vector and a simplex for each datum: 2³ nodes, times two real coordinates."""

    def model(x):
        with pyro.plate("data", 2):
            b = pyro.sample("b", dist.Bernoulli(torch.tensor([0.2, 0.5, 0.6])).to_event(1))
            s = pyro.sample("s", dist.Dirichlet(torch.tensor([2.0, 1.5, 3.0])))
            pyro.sample("x", dist.Normal((b * s).sum(-1), 0.7), obs=x)

    def guide(x):
        with pyro.plate("data", 2):
            logits = pyro.param("logits", lambda: torch.linspace(-1, 1, 6).reshape(2, 3))
            pyro.sample("b", dist.Bernoulli(logits=logits).to_event(1))
            pyro.sample("s", dist.Dirichlet(positive("c", 2.0, 3.0, 2.5)))

    agrees(make(model, guide))


@pytest.mark.slow
def test_one_hot_and_categorical_are_the_same():
    def pair(one_hot: bool) -> vb.Pair:
        kind = dist.OneHotCategorical if one_hot else dist.Categorical
        means = torch.tensor([-1.0, 0.5, 2.0])

        def model(x):
            with pyro.plate("data", 2):
                z = pyro.sample("z", kind(logits=torch.tensor([0.3, -0.2, 0.1])))
                pyro.sample("x", dist.Normal(z @ means if one_hot else means[z], 0.7), obs=x)

        def guide(x):
            with pyro.plate("data", 2):
                pyro.sample("z", kind(logits=pyro.param("l", lambda: torch.linspace(-1, 1, 6).reshape(2, 3))))

        return make(model, guide)

    torch.testing.assert_close(agrees(pair(True)), elbo_of(pair(False)))


def test_a_lost_jacobian_would_be_noticed(monkeypatch):
    """The mutant: nodes weighed as if they stood equally close in the latent's own space."""
    pair, batch = vb.pairs.gamma_poisson(), vb.pairs.TRACTABLE["gamma_poisson"].batch()
    vb.tabulate(pair, batch)
    exp = torch.distributions.transforms.ExpTransform
    monkeypatch.setattr(exp, "log_abs_det_jacobian", lambda self, x, y: 0 * x)
    with pytest.raises(vb.errors.BadInput, match="of pair 'gamma_poisson'"):
        vb.tabulate(pair, batch)


@pytest.mark.slow
def test_own_plates_multiply_up_and_a_global_latent_leaves_no_local_plate():
    def model(x):
        g = pyro.sample("g", dist.Normal(x.new_zeros(()), 1.0))
        with pyro.plate("data", 2):
            b = pyro.sample("b", dist.Bernoulli(logits=g))
            pyro.sample("x", dist.Normal(b + g, 1.0), obs=x)

    def guide(x):
        g = pyro.sample("g", dist.Normal(pyro.param("m", lambda: torch.tensor(0.3)), positive("s", 0.8)[0]))
        with pyro.plate("data", 2):
            pyro.sample("b", dist.Bernoulli(logits=torch.tensor([0.3, -0.8]) + 0.5 * g))

    assert agrees(make(model, guide)).shape == ()


def test_masked_rows_and_scaled_sites():
    """A row that is masked out has ELBO 0; a likelihood that counts 2.5 times counts so outside the KL."""
    scale, loc, sd = 2.5, torch.tensor([0.1, 0.4]), torch.tensor(0.6)

    def model(x):
        with pyro.plate("data", 2), pyro.poutine.mask(mask=torch.tensor([True, False])):
            z = pyro.sample("z", dist.Normal(x.new_zeros(()), 1.0))
            with pyro.poutine.scale(scale=scale):
                pyro.sample("x", dist.Normal(z, 1.0), obs=x)

    def guide(x):
        with pyro.plate("data", 2), pyro.poutine.mask(mask=torch.tensor([True, False])):
            pyro.sample("z", dist.Normal(pyro.param("loc", lambda: loc.clone()), sd))

    likelihood = -0.5 * (math.log(2 * math.pi) + (X - loc) ** 2 + sd**2)
    kl = kl_divergence(torch.distributions.Normal(loc, sd), torch.distributions.Normal(torch.zeros(()), 1.0))
    torch.testing.assert_close(
        elbo_of(make(model, guide)), torch.stack([(scale * likelihood - kl)[0], torch.zeros(())])
    )


def test_scaled_latents_are_drawn_as_ever():
    """Annealing multiplies log p and log q of the latent, not the probability by which it is drawn."""
    pair = vb.pairs.normal_normal()
    with pair.initialise(BATCH).scope():
        plain = vb.tabulate(pair, BATCH)

    def annealed(fn):
        return pyro.poutine.scale(fn, scale=0.3)

    def model(x):
        with pyro.plate("data", 2):
            with pyro.poutine.scale(scale=0.3):
                z = pyro.sample("z", dist.Normal(x.new_zeros(()), 1.0))
            pyro.sample("x", dist.Normal(z, 1.0), obs=x)

    likelihood = -0.5 * (math.log(2 * math.pi) + X**2 + 1.0)  # q = prior: the annealed KL is zero too
    torch.testing.assert_close(elbo_of(make(model, annealed(pair.guide))), likelihood)
    torch.testing.assert_close(plain.elbo(), likelihood)


@pytest.mark.slow
def test_autoguides():
    def model(x):
        mu = pyro.sample("mu", dist.Normal(x.new_zeros(()), 2.0))
        tau = pyro.sample("tau", dist.HalfNormal(x.new_tensor(1.5)))
        with pyro.plate("data", 2):
            pyro.sample("x", dist.Normal(mu, tau + 0.5), obs=x)

    for guide in (AutoNormal(model, init_scale=0.4), AutoMultivariateNormal(model, init_scale=0.4)):
        pair = make(model, guide)
        evidence = agrees(pair) + vb.tabulate(pair, BATCH).kl()
        by_other_guide = vb.tabulate(make(model, AutoNormal(model, init_scale=0.2)), BATCH).log_evidence()
        torch.testing.assert_close(evidence, by_other_guide, rtol=1e-8, atol=1e-8)


def test_point_masses_move():
    """Under AutoDelta there is one node, and the gradient is that of log p at it."""

    def model(x):
        mu = pyro.sample("mu", dist.Normal(x.new_zeros(()), 2.0))
        with pyro.plate("data", 2):
            pyro.sample("x", dist.Normal(mu, 1.0), obs=x)

    pair = make(model, AutoDelta(model)).initialise(BATCH)
    with pair.scope():
        table, (leaf,) = vb.tabulate(pair, BATCH), pair.leaves.values()
        assert len(table.log_p) == 1
        (gradient,) = torch.autograd.grad(table.elbo(), leaf)
        torch.testing.assert_close(gradient, (X - leaf).sum() - leaf / 4)


def test_posterior_far_narrower_than_the_guide_and_off_its_middle():
    def model(x):
        z = pyro.sample("z", dist.Normal(x.new_zeros(()), 1.0))
        pyro.sample("x", dist.Normal(z, 0.01), obs=torch.tensor(2.5))

    def guide(x):
        pyro.sample("z", dist.Normal(pyro.param("m", lambda: torch.tensor(-1.0)), 0.9))

    pair = make(model, guide)
    evidence = vb.tabulate(pair, BATCH).log_evidence()
    torch.testing.assert_close(evidence, dist.Normal(0.0, math.hypot(1.0, 0.01)).log_prob(torch.tensor(2.5)))


def test_one_by_one_where_a_model_looks_at_its_values():
    def pair(looks: bool) -> vb.Pair:
        def model(x):
            with pyro.plate("data", 1):
                b = pyro.sample("b", dist.Bernoulli(x.new_tensor(0.3)))
                mean = (b * 2.0 if b > 0.5 else 0.0 * b) if looks else b * 2.0
                pyro.sample("x", dist.Normal(mean, 1.0), obs=x[:1])

        def guide(x):
            with pyro.plate("data", 1):
                pyro.sample("b", dist.Bernoulli(logits=pyro.param("l", lambda: torch.tensor([0.4]))))

        return make(model, guide)

    torch.testing.assert_close(elbo_of(pair(True)), elbo_of(pair(False)))


def test_live_inside_the_scope_and_constant_outside():
    pair = vb.pairs.normal_normal().initialise(BATCH)
    pair.load({"loc": torch.tensor([0.5, -1.0]), "scale": torch.tensor(-0.4)})
    outside = vb.tabulate(pair, BATCH)
    assert not outside.log_q.requires_grad and not outside.elbo().requires_grad
    with pair.scope():
        inside = vb.tabulate(pair, BATCH)
        assert inside.log_q.requires_grad
        torch.testing.assert_close(inside.elbo(), outside.elbo())
        leaves = list(pair.leaves.values())
        ours = torch.autograd.grad(inside.elbo().sum(), leaves)
        torch.testing.assert_close(ours, torch.autograd.grad(pair.exact.elbo(X), leaves))
        assert all(leaf.grad is None for leaf in leaves)


def test_single_precision():
    torch.set_default_dtype(torch.float32)
    x = X.float()
    pair = vb.pairs.normal_normal().initialise(vb.Batch((x,)))
    with pair.scope():
        table = vb.tabulate(pair, vb.Batch((x,)))
        torch.testing.assert_close(table.elbo().sum(), pair.exact.elbo(x), rtol=1e-5, atol=1e-5)
        assert table.log_q.dtype == torch.float32


def test_a_guide_that_is_a_mixture_of_continuous_components():
    """The table's ELBO is the mean of as many draws, and its mass is one."""

    def model(x):
        z = pyro.sample("z", dist.Normal(torch.zeros(2), 1.0).to_event(1))
        pyro.sample("x", dist.Normal(z.sum(), 1.0), obs=x.sum())

    def guide(x):
        place = pyro.param("place", lambda: torch.tensor([[-1.0, 0.5], [0.8, 1.2]]))
        components = dist.Normal(place, 0.7).to_event(1)
        pyro.sample("z", dist.MixtureSameFamily(dist.Categorical(torch.tensor([0.3, 0.7])), components))

    pair = make(model, guide)
    table = vb.tabulate(pair, BATCH)
    assert table.mass.item() == pytest.approx(1.0, abs=1e-8)
    with pair.initialise(BATCH).scope(), vb.seeded(0):
        drawn = vb.draw(pair, BATCH, 100, {"log_p", "log_q"}).log_w.detach()
    assert abs(float(drawn.mean() - table.elbo())) < 5 * float(drawn.std()) / len(drawn) ** 0.5


@pytest.mark.parametrize("correlation, dim", [(0.98, 2), (0.995, 2), (0.8, 3)])
def test_a_ridge_across_the_axes(correlation, dim):
    """Nodes may be too far apart for a posterior that is narrow along no axis, and for neither axis alone does every second one say so."""
    noise = (dim / 2 * (1 - correlation) / correlation) ** 0.5
    x = torch.tensor([1.0], dtype=torch.float64)
    signs = torch.tensor([1.0, -1.0, 1.0][:dim], dtype=torch.float64)

    def model(x):
        z = pyro.sample("z", dist.Normal(x.new_zeros(dim), 1.0).to_event(1))
        pyro.sample("x", dist.Normal((signs * z).sum(), noise), obs=x[0])

    def guide(x):
        loc = pyro.param("loc", lambda: x.new_tensor([-0.6, -0.4, 0.2][:dim]))
        pyro.sample("z", dist.Normal(loc, 0.5).to_event(1))

    found = vb.tabulate(vb.Pair(model, guide), vb.Batch((x,))).log_evidence()
    assert float(found) == pytest.approx(float(dist.Normal(0.0, (dim + noise**2) ** 0.5).log_prob(x[0])), abs=1e-9)
