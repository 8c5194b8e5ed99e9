"""What estimators follow: which are one objective, which way is up, and their own truth in place of the ELBO's."""

from __future__ import annotations

from dataclasses import dataclass

import pyro
import pyro.distributions as dist
import pytest
import torch

import vbayes as vb
from tests import tractable
from vbayes.estimators.objective import ELBO

X = torch.tensor([-0.5, 2.0], dtype=torch.float64)
pytestmark = pytest.mark.usefixtures("double")


def test_estimators_of_one_bound_have_one_objective():
    assert vb.IWAE(4).objective == vb.DReG(4).objective == vb.VIMCO(4).objective == vb.OVIS(4).objective
    assert vb.STL().objective == vb.Score(8).objective == ELBO
    different = [vb.STL(), vb.IWAE(4), vb.IWAE(5), vb.IWAE(4, noise="antithetic"), vb.Renyi(4, alpha=0.2), vb.Renyi(4, alpha=0.3), vb.CUBO(4), vb.CUBO(4, order=3.0), vb.Beta()]  # fmt: skip
    assert len({method.objective for method in different}) == len(different)
    assert vb.Renyi(4, alpha=0.0).objective.settings == vb.IWAE(4).objective.settings
    assert vb.PIWAE(4).objective not in (vb.IWAE(4).objective, vb.MIWAE(4).objective)
    hung = vb.PIWAE(4, noise="antithetic").objective
    assert hung.truth is None and hung != vb.PIWAE(4).objective and vb.PIWAE(4).objective.truth is not None
    assert vb.SleepPhase().objective != ELBO and vb.SleepPhase().objective.truth is None


def test_wake_sleep_raises_one_thing_in_the_model_and_another_in_the_guide():
    """Gradients of its truth against those of each part alone; its own come near them with many draws, and the guide's is no gradient of the bound."""
    pair, batch = tractable.pair_of("three_bernoulli"), tractable.batch_of("three_bernoulli")
    few, many = vb.WakeSleep(2), vb.WakeSleep(4000)
    assert few.objective != vb.IWAE(2).objective and few.objective == vb.WakeSleep(2).objective != many.objective
    with pair.scope(), vb.seeded(0):
        leaves, table = pair.leaves, tractable.table_of("three_bernoulli", pair)

        def slope(value):
            found = torch.autograd.grad(value.sum(), list(leaves.values()), retain_graph=True, materialize_grads=True)
            return dict(zip(leaves, found, strict=True))

        right, bound, cover = (
            slope(f(table)) for f in (few.objective.truth, vb.IWAE(2).objective.truth, vb.Table.forward_kl)
        )
        drawn = slope(many.estimate(many.draw(pair, batch)).surrogate)
    torch.testing.assert_close(right["weights"], bound["weights"])
    torch.testing.assert_close(right["logits"], -cover["logits"])
    assert (drawn["logits"] - right["logits"]).norm() < 0.1 * right["logits"].norm()
    assert (bound["logits"] - right["logits"]).norm() > 0.3 * right["logits"].norm()


@pytest.mark.parametrize("name", ["normal_normal", "three_bernoulli", "linear_gaussian"])
def test_cubo_is_an_upper_bound_by_the_table(name):
    """Above the evidence and rising with n; with n = 1 the evidence itself, whatever q."""
    table = tractable.table_of(name, tractable.pair_of(name))
    evidence = table.log_evidence()
    values = [vb.CUBO(order=order).objective.truth(table) for order in (1.0, 2.0, 4.0)]
    torch.testing.assert_close(values[0], evidence)
    assert (evidence + 1e-6 < values[1]).all() and (values[1] + 1e-6 < values[2]).all()


def test_cubos_gradient_is_its_truths_with_many_draws():
    """In model and guide; the guide's half turned round would be seen."""
    pair, batch = tractable.pair_of("normal_normal"), tractable.batch_of("normal_normal")

    with pair.scope(), vb.seeded(0):
        leaves = list(pair.leaves.values())

        def slope(value):
            return torch.cat([g.flatten() for g in torch.autograd.grad(value.sum(), leaves, materialize_grads=True)])

        right = slope(vb.CUBO().objective.truth(tractable.table_of("normal_normal", pair)))
        method = vb.CUBO(4000)
        drawn = slope(method.estimate(method.draw(pair, batch)).surrogate)
    assert (drawn - right).norm() < 0.1 * right.norm()


def test_what_is_lowered_is_a_loss_as_it_is():
    pair = vb.pairs.normal_normal().initialise(vb.Batch((X,)))
    with pair.scope(), vb.seeded(0):
        drawn = vb.draw(pair, vb.Batch((X,)), 8, vb.CUBO.needs)
        value = vb.CUBO(8).bound_of(drawn.log_w).sum()
        path = drawn.log_p - drawn.log_p_fixed - drawn.log_q + drawn.log_q_fixed
        v = (2 * drawn.log_w.detach()).softmax(0)
        wanted = torch.autograd.grad((v * drawn.log_p_fixed - v * (1 - v) * path).sum(), list(pair.leaves.values()))
    for way in ("loss", "differentiable_loss"):
        with pair.scope(), vb.seeded(0):
            loss = getattr(vb.CUBO(8), way)(pair.model, pair.guide, X)
            assert float(torch.as_tensor(loss).detach()) == pytest.approx(float(value.detach()))
            if way == "differentiable_loss":
                for got, want in zip(torch.autograd.grad(loss, list(pair.leaves.values())), wanted, strict=True):
                    torch.testing.assert_close(got, want)


def correlated() -> vb.Pair:
    """A posterior of two latents with correlation .8 under a guide without, which starts so narrow that the mean squared weight is infinite."""

    def model(x):
        z = pyro.sample("z", dist.MultivariateNormal(torch.zeros(2), torch.tensor([[1.0, 0.8], [0.8, 1.0]])))
        pyro.sample("x", dist.Normal(z[..., :1], 1e3).to_event(1), obs=x)

    def guide(x):
        scale = pyro.param("scale", torch.full((2,), 0.4), constraint=dist.constraints.positive)
        pyro.sample("z", dist.Normal(torch.zeros(2), scale).to_event(1))

    return vb.Pair(model, guide)


@pytest.mark.slow
def test_cubo_covers_where_the_elbo_shrinks():
    """Factored normals at correlation ρ: the ELBO's has the variance 1 − ρ², the χ² bound's a wider one, by its own stationary point from the table."""
    x = torch.zeros(1)
    narrow = vb.fit(correlated(), x, vb.STL(16), steps=600, learning_rate=0.02, compile=True, progress=False)
    wide = vb.fit(correlated(), x, vb.CUBO(256), steps=1500, learning_rate=0.005, compile=True, progress=False)
    assert narrow.parameters["scale"].square().mean() == pytest.approx(1 - 0.8**2, abs=0.02)
    assert wide.parameters["scale"].square().mean() > 0.8
    with wide.pair.scope():
        bound = vb.CUBO().objective.truth(vb.tabulate(wide.pair, x)).sum()
        slope = torch.autograd.grad(bound, wide.pair.leaves["scale"])[0]
    start = vb.CUBO().objective.truth(vb.tabulate(narrow.pair, x)).sum()
    assert bound < start - 0.1 and slope.abs().max() < 0.05


@pytest.mark.slow
def test_the_laboratory_judges_each_by_its_own_truth():
    pair = tractable.pair_of("normal_normal")
    methods = [vb.Pathwise(), vb.Beta(), vb.CUBO(64), vb.TailAdaptive(8)]
    result = vb.compare(pair, X, methods, at={"here": pair}, replicas=2000, progress=False)
    table = result.to_dataframe().query("group == 'all'").set_index("estimator")
    cubo = "cubo(64)"
    assert table.bound.nunique() == 4 and table.oracle[cubo] == "tabulated"
    assert (
        table.oracle["pathwise"] == "exact ELBO" and table.oracle["beta"] == table.oracle["tail_adaptive(8)"] == "none"
    )
    off = table.bias[cubo] / table.mean_norm[cubo]
    few = vb.compare(pair, X, [vb.CUBO(4)], at={"here": pair}, replicas=2000, progress=False).to_dataframe()
    few = few.query("group == 'all'").iloc[0]
    assert (
        off < 0.5 * few.bias / few.mean_norm
    )  # of order 1/K, judged by the bound itself and not by its mean over 64 draws


def test_the_weights_of_tail_adaptive_are_ranks():
    """By hand: 1/rank from the largest down, whatever the order of the draws; Pyro takes the places of a sorted list for ranks."""
    log_w = torch.tensor([[0.0], [3.0], [-1.0], [2.0]])
    log_p = log_w.clone().requires_grad_()
    particles = vb.Particles(log_p=log_p, log_q=torch.zeros(4, 1), log_q_fixed=torch.zeros(4, 1))
    vb.TailAdaptive(4).estimate(particles).surrogate.sum().backward()
    wanted = torch.tensor([[1 / 3], [1.0], [1 / 4], [1 / 2]])
    torch.testing.assert_close(log_p.grad, wanted / wanted.sum())
    log_p.grad = None
    vb.TailAdaptive(4, beta=0.0).estimate(particles).surrogate.sum().backward()
    torch.testing.assert_close(log_p.grad, torch.full((4, 1), 0.25))


def test_an_objective_of_ones_own():
    """The forward KL, written from its formula, with its truth: the laboratory calls an estimator of it unbiased where it is, and would not as one of the ELBO."""

    def inclusive(table):
        return (
            table.posterior()
            * (table.log_p + table.log_measure - table.log_evidence() - table.log_q - table.log_measure)
        ).sum(0)

    @dataclass(frozen=True)
    class Weighted(vb.Estimator):
        num_particles: int = 1
        unbiased_for, unbiased_in = "KL(p ‖ q)", frozenset({"guide"})
        needs = frozenset({"log_p_fixed", "log_q_fixed"})

        @property
        def objective(self):
            return vb.Objective("KL(p ‖ q)", inclusive, ascend=False)

        def estimate(self, particles):
            # E_q[w/p(x) · −∇ log q]: p(x) is known here, N(x; 0, 2).
            evidence = dist.Normal(0.0, 2.0**0.5).log_prob(X)
            w = (particles.log_p_fixed - particles.log_q_fixed - evidence).detach().exp()
            return vb.Estimate((w * w.log()).mean(0), -(w * particles.log_q_fixed).mean(0))

    pair = tractable.pair_of("normal_normal")
    found = vb.compare(pair, X, [Weighted()], at={"here": pair}, replicas=20_000, progress=False).to_dataframe()
    (whole,) = (row for _, row in found.iterrows() if row.group == "all")
    assert whole.oracle == "tabulated" and abs(whole.bias_z) < 4 and whole.bound == "KL(p ‖ q)"
    assert whole.bias_resolution < 0.5 * whole.mean_norm


def test_a_guide_by_a_word_is_not_settled_for_another_objective():
    """A search that ends at the best ELBO is no answer to a fit that asked for another objective."""

    def model(x):
        z = pyro.sample("z", dist.Normal(0.0, 1.0))
        pyro.sample("x", dist.Normal(z, 1.0), obs=x)

    options = {"progress": False, "max_steps": 50}
    assert vb.fit(model, torch.ones(1), "stl", guide="full", **options).steps == 0
    assert vb.fit(model, torch.ones(1), "tail_adaptive", guide="full", **options).steps > 0


@pytest.mark.parametrize(("make", "message"), [
    (lambda: vb.CUBO(order=0.5), "order=0.5"), (lambda: vb.CUBO(order=float("nan")), "order=nan"), (lambda: vb.TailAdaptive(beta=1.0), "beta=1.0"),
])  # fmt: skip
def test_settings_that_make_no_sense(make, message):
    with pytest.raises(vb.errors.BadInput, match=message):
        make()


def test_second_derivatives_are_right_where_the_surrogate_is_the_bound():
    """d²/dm² of −E log w at q = N(m, 1), p = N(0, 1): 1 by the path; sticking the landing's is none, as its docstring says."""

    def model():
        pyro.sample("z", dist.Normal(0.0, 1.0))

    found = {}
    for method in (vb.Pathwise(), vb.STL()):
        m = torch.tensor(0.3, requires_grad=True)
        with vb.seeded(0):
            loss = method.differentiable_loss(model, lambda m=m: pyro.sample("z", dist.Normal(m, 1.0)))
        (first,) = torch.autograd.grad(loss, m, create_graph=True)
        (second,) = torch.autograd.grad(first, m, allow_unused=True, materialize_grads=True)
        found[type(method)] = float(second)
    assert found[vb.Pathwise] == pytest.approx(1.0) and found[vb.STL] != pytest.approx(1.0)
