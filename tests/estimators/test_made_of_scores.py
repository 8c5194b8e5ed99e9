"""Estimators that use z and its scores, or pairs of draws: what each must be, by hand."""

from __future__ import annotations

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro.infer.autoguide import AutoMultivariateNormal, AutoNormal

import vbayes as vb
from tests import tractable
from vbayes.laboratory.replicas import Replicas
from vbayes.staging import draw_noise, replicate, stage

pytestmark = pytest.mark.usefixtures("double")
PAIR = "normal_normal"


def gradients(pair: vb.Pair, estimator: vb.Estimator, batch: vb.Batch, count: int = 4000) -> torch.Tensor:
    """(count, P)."""
    replicas = Replicas(pair, estimator, batch)
    assert replicas.why_slow is None
    with vb.seeded(0):
        noise = draw_noise(replicas.sizes, count, torch.zeros(()))
        return torch.cat(list(replicas.gradients(pair, noise, 0)))


def regression(guide=AutoNormal) -> tuple[vb.Pair, vb.Batch]:
    with vb.seeded(0):
        x, y = torch.randn(40, 3), torch.bernoulli(torch.full((40,), 0.6))

    def model(x, y):
        w = pyro.sample("w", dist.Normal(torch.zeros(3), 1.0).to_event(1))
        with pyro.plate("data", len(x)):
            pyro.sample("y", dist.Bernoulli(logits=x @ w), obs=y)

    batch = vb.Batch((x, y))
    return vb.Pair(model, guide(model)).initialise(batch), batch


# ---- Quadratic -------------------------------------------------------------------------------------------------------


def test_a_parabola_has_no_noise_whatever_the_guide():
    """Each draw is the exact gradient; any term of the parabola left out would show."""
    pair, batch = tractable.pair_of(PAIR), tractable.batch_of(PAIR)
    drawn = gradients(pair, vb.Quadratic(), batch, 10)
    with pair.scope():
        bound = tractable.table_of(PAIR, pair).elbo().sum()
        right = torch.cat([g.reshape(-1) for g in torch.autograd.grad(bound, list(pair.leaves.values()))])
    torch.testing.assert_close(drawn, right.expand_as(drawn), rtol=1e-9, atol=1e-9)
    assert gradients(pair, vb.STL(), batch, 100).var(0).sum() > 1


@pytest.mark.slow
@pytest.mark.parametrize("guide", [AutoNormal, AutoMultivariateNormal])
def test_a_parabola_takes_most_of_the_noise_of_a_regression(guide):
    """Through an autoguide, at its start, where the guide is narrow; with the mean of the pathwise gradient."""
    pair, batch = regression(guide)
    drawn, plain = (gradients(pair, method, batch) for method in (vb.Quadratic(), vb.Pathwise()))
    assert drawn.var(0).sum() < 0.01 * plain.var(0).sum()
    z = (drawn.mean(0) - plain.mean(0)) / ((drawn.var(0) + plain.var(0)) / len(plain)).sqrt()
    assert z.nan_to_num().abs().max() < 5  # NaN: parameters that nothing reaches


def test_a_parabola_knows_correlations():
    """p = N(0, Σ) under a full normal elsewhere: the gradient of the KL between them, in each draw."""
    wide = torch.tensor([[1.0, 0.8], [0.8, 1.0]])

    def model():
        pyro.sample("z", dist.MultivariateNormal(torch.zeros(2), wide))

    pair, batch = vb.Pair(model, AutoMultivariateNormal(model, init_scale=0.7)).initialise(vb.Batch(())), vb.Batch(())
    drawn = gradients(pair, vb.Quadratic(2), batch, 5)
    with pair.scope():
        q = pair.guide.get_posterior()
        kl = torch.distributions.kl_divergence(q, torch.distributions.MultivariateNormal(torch.zeros(2), wide))
        right = torch.autograd.grad(-kl, list(pair.leaves.values()), materialize_grads=True)
    torch.testing.assert_close(drawn, torch.cat([g.reshape(-1) for g in right]).expand_as(drawn))


# ---- FittedQuadratic -------------------------------------------------------------------------------------------------


def correlated_pair() -> tuple[vb.Pair, vb.Batch]:
    def model():
        pyro.sample("z", dist.MultivariateNormal(torch.zeros(2), torch.tensor([[1.0, 0.8], [0.8, 1.0]])))

    return vb.Pair(model, AutoMultivariateNormal(model, init_scale=0.7)).initialise(vb.Batch(())), vb.Batch(())


def test_a_parabola_is_learned_and_serves_a_guide_that_has_moved():
    """After 200 draws at one place each gradient there is the exact one, and so it is elsewhere: what is remembered is of log p."""
    pair, batch = correlated_pair()
    learned, exact = Replicas(pair, vb.FittedQuadratic(2, rate=1.0), batch), Replicas(pair, vb.Quadratic(), batch)
    learned.settle(pair, 0)
    with vb.seeded(1):
        noise = draw_noise(learned.sizes, 5, torch.zeros(()))
        other = pair.copy().load({k: v + 0.3 * torch.randn_like(v) for k, v in pair.parameters.items()})
    for place in (pair, other):
        drawn, right = (torch.cat(list(each.gradients(place, noise, 0))) for each in (learned, exact))
        torch.testing.assert_close(drawn, right, rtol=1e-6, atol=1e-6)


class Misled(vb.FittedQuadratic):
    """It begins with a curvature of the wrong sign, much too large, and hardly learns."""

    def init(self, particles):
        found = super().init(particles)
        return found | {"curvature": 50 * torch.ones_like(found["slope"]).diag_embed()}


def test_a_parabola_that_does_not_fit_is_left_alone():
    """As it is where a guide turns faster than it is learned; taken whole, it would leave thousands of times the noise."""
    pair, batch = correlated_pair()
    misled, plain = (gradients(pair, method, batch, 500) for method in (Misled(rate=1e-6), vb.Pathwise()))
    assert misled.var(0).sum() < 1.5 * plain.var(0).sum()


@pytest.mark.slow
def test_a_fit_of_many_latents_outlives_a_parabola_that_is_being_learned():
    """Fifty with covariances, at a rate of 0.01: with all of the parabola at once numbers stopped being finite after some 500 steps."""
    drawn = torch.Generator().manual_seed(0)
    x = torch.randn(500, 50, generator=drawn) + 0.7 * torch.randn(500, 1, generator=drawn)
    y = (torch.rand(500, generator=drawn) < (x @ torch.randn(50, generator=drawn) * 0.3).sigmoid()).float()

    def model(x, y):
        w = pyro.sample("w", dist.Normal(torch.zeros(50), 1.0).to_event(1))
        with pyro.plate("data", len(x)):
            pyro.sample("y", dist.Bernoulli(logits=x @ w), obs=y)

    pair = vb.Pair(model, AutoMultivariateNormal(model, init_scale=0.1))
    options = {"steps": 800, "learning_rate": 0.01, "seed": 0, "compile": True, "progress": False}
    fitted, plain = (
        vb.fit(pair, (x, y), method, **options).history.elbo_per_datum.tail(200).mean()
        for method in (vb.FittedQuadratic(), vb.Pathwise())
    )
    assert fitted > plain


@pytest.mark.slow
@pytest.mark.parametrize("guide", [AutoNormal, AutoMultivariateNormal])
def test_a_fitted_parabola_takes_most_of_the_noise_of_a_regression(guide):
    """Nearly all that the expansion takes, without second derivatives; with the mean of the pathwise gradient."""
    pair, batch = regression(guide)
    fitted, plain = (gradients(pair, method, batch) for method in (vb.FittedQuadratic(), vb.Pathwise()))
    assert fitted.var(0).sum() < 0.05 * plain.var(0).sum()
    z = (fitted.mean(0) - plain.mean(0)) / ((fitted.var(0) + plain.var(0)) / len(plain)).sqrt()
    assert z.nan_to_num().abs().max() < 5  # NaN: parameters that nothing reaches


@pytest.mark.slow
def test_a_fitted_parabola_is_of_all_the_width_of_the_guide():
    """A steep likelihood under a wide guide: the expansion at its middle is worse than none, a fitted one better."""

    def model():
        z = pyro.sample("z", dist.Normal(0.0, 1.0))
        pyro.sample("x", dist.Bernoulli(logits=8 * z), obs=torch.tensor(1.0))

    def guide():
        loc, scale = pyro.param("loc", lambda: torch.tensor(0.2)), pyro.param("scale", lambda: torch.tensor(1.0))
        pyro.sample("z", dist.Normal(loc, scale))

    pair, batch = vb.Pair(model, guide).initialise(vb.Batch(())), vb.Batch(())
    fitted, expanded, plain = (
        float(gradients(pair, method, batch).var(0).sum())
        for method in (vb.FittedQuadratic(), vb.Quadratic(), vb.Pathwise())
    )
    assert fitted < 0.8 * plain and expanded > plain


# ---- ARM -------------------------------------------------------------------------------------------------------------


def test_arm_is_disarm_with_its_uniform():
    """Given a pair of draws, the mean over its uniforms is DisARM; more noise, never less."""
    logits = torch.tensor([-2.0, -0.3, 0.4, 1.5]).expand(2, 4)
    one, other = (
        torch.tensor([[1.0, 0.0, 1.0, 0.0], [0.0, 0.0, 1.0, 1.0]]),
        torch.tensor([0.0, 0.0, 1.0, 1.0]).expand(2, 4),
    )
    with vb.seeded(0):
        drawn = torch.stack([vb.ARM().factor(logits, one, other) for _ in range(4000)])
    right = vb.DisARM().factor(logits, one, other)
    assert ((drawn.mean(0) - right).abs() < 5 * drawn.std(0) / 4000**0.5).all()


def test_arms_uniforms_are_uniform():
    """Pairs drawn by their own chances, and then u: its distribution function is the identity, on both sides of α = 0."""
    with vb.seeded(1):
        u, logits = torch.rand(20_000, 1), torch.tensor([-1.2, 0.7])
        one, other = (u < logits.sigmoid()).double(), (1 - u < logits.sigmoid()).double()
        again = 0.5 * (1 - vb.ARM().factor(logits.expand_as(one), one, other))
    assert ((again < logits.sigmoid()).double() == one).all() and (
        (1 - again < logits.sigmoid()).double() == other
    ).all()
    for at in (0.1, 0.25, 0.5, 0.8):
        assert ((again < at).double().mean(0) - at).abs().max() < 5 * (at * (1 - at) / 20_000) ** 0.5


@pytest.mark.slow
def test_arm_is_noisier_than_disarm():
    pair, batch = tractable.pair_of("three_bernoulli"), tractable.batch_of("three_bernoulli")
    arm, disarm = (gradients(pair, method, batch, 20_000) for method in (vb.ARM(), vb.DisARM()))
    assert arm.var(0).sum() > 1.05 * disarm.var(0).sum()


# ---- DAIS ------------------------------------------------------------------------------------------------------------


def by_hand(method: vb.DAIS, loc, scale, x, noise, *, kinetic: bool = True):
    """The bound of p = N(z; 0, 1) N(x; z, 1) and q = N(loc, scale), from noise (1 + T, R, N); without the kinetic terms, a mutant."""
    z = loc + scale * noise[0]
    bound, v = -dist.Normal(loc, scale).log_prob(z), noise[1]
    for t in range(1, method.steps + 1):
        share = t / method.steps
        z = z + method.step_size / 2 * v
        after = v + method.step_size * (share * (x - 2 * z) + (1 - share) * (loc - z) / scale**2)
        z = z + method.step_size / 2 * after
        bound = bound + kinetic * (dist.Normal(0.0, 1.0).log_prob(after) - dist.Normal(0.0, 1.0).log_prob(v))
        v = method.momentum * after + (1 - method.momentum**2) ** 0.5 * noise[1 + t]
    return bound + dist.Normal(0.0, 1.0).log_prob(z) + dist.Normal(z, 1.0).log_prob(x)


def test_dais_is_its_formula_and_lies_between_elbo_and_evidence():
    pair, batch = tractable.pair_of(PAIR), tractable.batch_of(PAIR)
    (x,) = batch.args
    with pair.scope():
        table = tractable.table_of(PAIR, pair)
        loc, scale = pyro.param("loc").detach(), pyro.param("scale").detach()
    method = vb.DAIS(steps=6, step_size=0.3)
    program = stage(pair, method, batch)
    with vb.seeded(0):
        noise = draw_noise(program.sizes, 20_000, x)
    _, values = replicate(program, pair.parameters, noise, batch.args)
    rows = noise[0].view(len(values), -1, 2).movedim(1, 0)
    torch.testing.assert_close(values, by_hand(method, loc, scale, x, rows).sum(-1))
    mean, error = values.mean(), values.std() / len(values) ** 0.5
    evidence = table.log_evidence().sum()
    assert table.elbo().sum() + 0.3 < mean < evidence + 5 * error
    with vb.seeded(1):
        longer = by_hand(vb.DAIS(steps=12, step_size=0.3), loc, scale, x, torch.randn(14, 20_000, 2)).sum(-1)
    assert mean + 0.3 < longer.mean() < evidence + 5 * error
    assert by_hand(method, loc, scale, x, rows, kinetic=False).sum(-1).mean() > evidence + 5 * error


def test_dais_without_steps_is_pathwise():
    pair, batch = tractable.pair_of("gamma_poisson"), tractable.batch_of("gamma_poisson")
    found = []
    for method in (vb.DAIS(steps=0), vb.Pathwise()):
        with pair.scope(), vb.seeded(0):
            surrogate = method.estimate(method.draw(pair, batch)).surrogate.sum()
            found.append(torch.autograd.grad(surrogate, list(pair.leaves.values()), allow_unused=True))
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other)


def test_learned_step_sizes_start_as_dais_and_follow_its_bound():
    """The same value and gradient before they have learned; what they climb is the slope of the bound in the step size, by a difference."""
    pair, batch = tractable.pair_of("linear_gaussian"), tractable.batch_of("linear_gaussian")

    def of(method):
        with vb.seeded(0):
            found = method.estimate(method.draw(pair, batch))
        return found, torch.autograd.grad(found.surrogate.sum(), list(pair.leaves.values()), retain_graph=True)

    with pair.scope():
        learned = vb.LearnedDAIS(3, steps=2, step_size=0.3)
        with vb.seeded(0):
            learned.begin(learned.draw(pair, batch))
        sizes = learned.memory.network.log_sizes.clone().requires_grad_()
        assert sizes.shape == (2, 2)
        learned._put("network", {"log_sizes": sizes})
        (mine, gradients), (right, known) = of(learned), of(vb.DAIS(3, steps=2, step_size=0.3))
        torch.testing.assert_close(mine.value, right.value)
        for one, other in zip(gradients, known, strict=True):
            torch.testing.assert_close(one, other)
        (slope,) = torch.autograd.grad(mine.auxiliary.sum(), sizes)
        up, down = (of(vb.DAIS(3, steps=2, step_size=0.3 * 2.718281828459045**d))[0].value.sum() for d in (1e-5, -1e-5))
        torch.testing.assert_close(slope.sum(), (down - up) / 2e-5, rtol=1e-6, atol=1e-6)


@pytest.mark.slow
def test_step_sizes_that_were_too_short_are_learned():
    """Under a guide that stays as it is: two thirds of the way from the ELBO to the evidence, where the steps at the start make next to nothing of it."""
    pair, batch = tractable.TRACTABLE[PAIR].pair(), tractable.batch_of(PAIR)
    method = vb.LearnedDAIS(8, steps=4, step_size=0.02, rate=0.02)
    fit = vb.fit(pair, batch.args[0], method, steps=1500, learning_rate=1e-12, progress=False, seed=0)
    table = tractable.table_of(PAIR, pair)
    elbo, evidence = float(table.elbo().sum()), float(table.log_evidence().sum())
    first, last = fit.history.elbo.iloc[:50].mean(), fit.history.elbo.iloc[-300:].mean()
    assert first < elbo + 0.25 * (evidence - elbo) and elbo + 0.65 * (evidence - elbo) < last < evidence


# ---- Fisher ----------------------------------------------------------------------------------------------------------


def test_the_fisher_divergence_of_a_table_is_that_by_hand():
    """With p ∝ N(z; x/2, 1/2): the slopes differ by x − 2m + ε (1/s − 2 s)."""
    pair, batch = tractable.pair_of(PAIR), tractable.batch_of(PAIR)
    with pair.scope():
        loc, scale = pyro.param("loc"), pyro.param("scale")
        right = (batch.args[0] - 2 * loc).square() + (1 / scale - 2 * scale).square()
        found = tractable.table_of(PAIR, pair).fisher()
        torch.testing.assert_close(found, right, rtol=1e-8, atol=1e-8)
        leaves = list(pair.leaves.values())
        for one, other in zip(*(torch.autograd.grad(d.sum(), leaves) for d in (found, right)), strict=True):
            torch.testing.assert_close(one, other, rtol=1e-8, atol=1e-8)
    outside = tractable.table_of(PAIR, pair).fisher()
    torch.testing.assert_close(outside, right.detach(), rtol=1e-8, atol=1e-8)
    assert not outside.requires_grad
    with pytest.raises(vb.errors.Unsuitable, match="discrete latents"):
        tractable.table_of("three_bernoulli", tractable.pair_of("three_bernoulli")).fisher()


def test_scores_match_at_the_posterior():
    """No divergence, no gradient, no noise."""
    pair, batch = tractable.pair_of(PAIR), tractable.batch_of(PAIR)
    pair.load({"loc": batch.args[0] / 2, "scale": torch.tensor(0.5).sqrt().log()})
    assert gradients(pair, vb.Fisher(), batch, 10).abs().max() < 1e-12
    assert tractable.table_of(PAIR, pair).fisher().abs().max() < 1e-12


@pytest.mark.parametrize(("make", "message"), [
    (lambda: vb.DAIS(steps=-1), "steps=-1"), (lambda: vb.DAIS(step_size=0.0), "step_size=0.0"), (lambda: vb.DAIS(momentum=1.5), "momentum=1.5"), (lambda: vb.ARM(3), "even number"),
])  # fmt: skip
def test_settings_that_make_no_sense(make, message):
    with pytest.raises(vb.errors.BadInput, match=message):
        make()
