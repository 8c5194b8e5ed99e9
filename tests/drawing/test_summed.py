"""Sites that the model sums out: densities, draws and probabilities against sums by hand, and no estimator that would draw from the prior."""

from __future__ import annotations

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro.infer import Trace_ELBO, TraceEnum_ELBO, TraceGraph_ELBO, TraceMeanField_ELBO
from torch import Tensor

import vbayes as vb
from vbayes.drawing.densities import densities
from vbayes.drawing.summed import Summed, model_terms
from vbayes.estimators import ESTIMATORS
from vbayes.exact import hidden_markov
from vbayes.pair.sites import Layout

X = torch.tensor([-3.2, -2.5, -0.1, 2.7, 3.4])
W, MU = torch.tensor([0.3, 0.7]), torch.tensor([-1.0, 1.0])
quiet = {"progress": False, "device": "cpu"}
SUM = {"enumerate": "parallel"}


def class_of(w: Tensor, infer=None) -> Tensor:
    return pyro.sample("k", dist.Categorical(w), infer=SUM if infer is None else infer)


def mixture(x):
    """Locations of two components are latent, the component of each row is summed out."""
    with pyro.plate("components", 2):
        loc = pyro.sample("loc", dist.Normal(MU, 3.0))
    with pyro.plate("data", len(x)):
        pyro.sample("x", dist.Normal(loc[class_of(W)], 1.0), obs=x)


def near(x):
    """A guide that knows the posterior within a little."""
    at = pyro.param("at", torch.tensor([-2.8, 2.0]))
    with pyro.plate("components", 2):
        pyro.sample("loc", dist.Normal(at, torch.tensor([0.7, 0.6])))


def pair_of(model=mixture, guide=near) -> vb.Pair:
    return vb.Pair(model, guide, name="mixture")


def each_by_hand(loc: Tensor, x: Tensor = X) -> Tensor:
    """(N, 2) log p(k, x_n | loc)."""
    return W.log() + dist.Normal(loc, 1.0).log_prob(x[:, None])


def by_hand(loc: Tensor, x: Tensor = X) -> Tensor:
    return each_by_hand(loc, x).logsumexp(-1).sum() + dist.Normal(MU, 3.0).log_prob(loc).sum()


def evidence_by_hand() -> float:
    """log ∫∫ p(x, loc) over a grid of both, where loc₀ < loc₁: the labels' other order is as far away as no draw of `near` comes."""
    grid = torch.linspace(-16.0, 16.0, 321, dtype=torch.float64)
    one, two = torch.meshgrid(grid, grid, indexing="ij")
    parts = [W[k].log() + dist.Normal(at[..., None], 1.0).log_prob(X.double()) for k, at in enumerate((one, two))]
    joint = torch.logaddexp(*parts).sum(-1)
    joint = joint + dist.Normal(-1.0, 3.0).log_prob(one) + dist.Normal(1.0, 3.0).log_prob(two)
    return float(joint[one < two].logsumexp(0) + 2 * torch.log(grid[1] - grid[0]))


def summed(model, guide, *args) -> tuple[Summed, dict]:
    with pyro.get_param_store().scope(), vb.seeded(0), torch.no_grad():
        q = pyro.poutine.trace(guide).get_trace(*args)
        p = pyro.poutine.trace(pyro.poutine.replay(model, trace=q)).get_trace(*args)
        found = Summed(model, args, {}, q, p)
        _ = found.drawn
        return found, {"q": q, "p": p, "layout": Layout(q, p)}


def test_a_plate_of_a_single_row():
    """Whose dimension Pyro's packed tensors have not."""
    found = vb.posterior(pair_of(), X[-1:], draws=400)
    assert found.draws["k"].shape == (400, 1)
    loc = found.draws["loc"]
    share = (W.log() + dist.Normal(loc, 1.0).log_prob(X[-1])).softmax(-1)[:, 1].mean()
    assert abs(float((found.draws["k"] == 1).float().mean() - share)) < 5 * (0.25 / 400) ** 0.5


def test_a_density_is_that_of_the_sum():
    loc = torch.tensor([-2.0, 2.5])
    with pyro.get_param_store().scope(), vb.seeded(0):
        log_p, log_q, _ = densities(mixture, near, (X,), {"loc": loc})
        torch.testing.assert_close(log_p, by_hand(loc))
        guide = dist.Normal(torch.tensor([-2.8, 2.0]), torch.tensor([0.7, 0.6]))
        torch.testing.assert_close(log_q, guide.log_prob(loc).sum())


def test_each_row_has_its_own_sum():
    """A latent and a class in the same plate: log-weights stay those of rows, and a gradient goes through them."""

    def model(x):
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", dist.Normal(0.0, 1.0))
            pyro.sample("x", dist.Normal(z + MU[class_of(W)], 1.0), obs=x)

    def guide(x):
        with pyro.plate("data", len(x)):
            pyro.sample("z", dist.Normal(x / 2, 0.8))

    z = torch.linspace(-1.0, 1.0, 5).requires_grad_()
    with vb.seeded(0):
        log_p, _, _ = densities(model, guide, (X,), {"z": z})
    right = (W.log() + dist.Normal(z[:, None] + MU, 1.0).log_prob(X[:, None])).logsumexp(-1) + dist.Normal(
        0.0, 1.0
    ).log_prob(z)
    torch.testing.assert_close(log_p, right)
    (gradient,), (wanted,) = (torch.autograd.grad(value.sum(), z) for value in (log_p, right))
    torch.testing.assert_close(gradient, wanted)
    found = vb.log_evidence(vb.Pair(model, guide), X, num_particles=500, **quiet)
    truth = (W.log() + dist.Normal(MU, 2**0.5).log_prob(X[:, None])).logsumexp(-1)
    assert (
        found.per_datum.shape == (5,) and (abs(found.per_datum - truth.numpy()) < 5 * found.per_datum_se + 1e-5).all()
    )


@pytest.mark.parametrize("kind", ["categorical", "bernoulli", "one-hot", "marked sequential"])
def test_every_kind_of_site_that_has_a_list_of_values(kind):
    def model(x):
        with pyro.plate("data", len(x)):
            if kind == "bernoulli":
                loc = MU[pyro.sample("k", dist.Bernoulli(W[1]), infer=SUM).long()]
            elif kind == "one-hot":
                loc = pyro.sample("k", dist.OneHotCategorical(W), infer=SUM) @ MU
            else:
                loc = MU[class_of(W, SUM if kind == "categorical" else {"enumerate": "sequential"})]
            pyro.sample("x", dist.Normal(loc, 1.0), obs=x)

    found, of = summed(model, lambda x: None, X)
    joint = W.log() + dist.Normal(MU, 1.0).log_prob(X[:, None])
    torch.testing.assert_close(of["layout"].total(found.terms(of["layout"])), joint.logsumexp(-1))
    torch.testing.assert_close(found.probabilities()["k"], joint.softmax(-1))
    torch.testing.assert_close(found.log_likelihood(of["p"].nodes["x"]), joint.logsumexp(-1))
    assert found.drawn.nodes["k"]["value"].shape == of["p"].nodes["k"]["value"].shape
    pair = vb.Pair(model, lambda x: None)
    exact = vb.log_evidence(pair, X, **quiet)
    assert exact.direction == "exact" and exact.value == pytest.approx(float(joint.logsumexp(-1).sum()), rel=1e-6)


def test_a_chain_of_states():
    """Forwards and backwards along `pyro.markov`: log p(x) and the states' probabilities are those of the closed form."""
    initial, transition = torch.tensor([0.6, 0.4]), torch.tensor([[0.9, 0.1], [0.3, 0.7]])

    def model(x):
        state = None
        for t in pyro.markov(range(len(x))):
            state = pyro.sample(f"k{t}", dist.Categorical(initial if state is None else transition[state]), infer=SUM)
            pyro.sample(f"x{t}", dist.Normal(MU[state], 1.0), obs=x[t])

    found, of = summed(model, lambda x: None, X)
    emitted = dist.Normal(MU, 1.0).log_prob(X[:, None])
    truth = hidden_markov.log_evidence(initial.log(), transition.log(), emitted[None])
    torch.testing.assert_close(of["layout"].total(found.terms(of["layout"])), truth.squeeze())
    paths = torch.cartesian_prod(*[torch.arange(2)] * 5)
    joint = (
        initial.log()[paths[:, 0]]
        + transition.log()[paths[:, :-1], paths[:, 1:]].sum(1)
        + emitted[torch.arange(5), paths].sum(1)
    )
    last = torch.stack([joint[paths[:, 4] == k].logsumexp(0) for k in (0, 1)]).softmax(0)
    torch.testing.assert_close(found.probabilities()["k4"], last)
    # No row has a likelihood of its own: it is that at a state which was drawn from the posterior.
    at = found.drawn.nodes["k2"]["value"]
    torch.testing.assert_close(found.log_likelihood(of["p"].nodes["x2"]), emitted[2, at])


def test_draws_are_of_the_conditional_and_not_of_the_prior():
    """Ten thousand rows of one value: the share of a class is its probability given that value."""
    x = torch.full((10_000,), 0.4)
    found, of = summed(mixture, near, x)
    right = each_by_hand(of["q"].nodes["loc"]["value"], x)[0].softmax(-1)
    share = found.drawn.nodes["k"]["value"].double().mean()
    assert abs(float(share - right[1])) < 5 * float((right[0] * right[1] / 10_000).sqrt())
    assert abs(float(right[1] - W[1])) > 0.1  # the prior would not pass


def test_masks_are_inside_of_the_sum_and_scales_outside():
    seen = torch.tensor([True, False, True, True, False])

    def model(x):
        with pyro.plate("data", len(x)), pyro.poutine.scale(scale=2.0):
            k = class_of(W)
            with pyro.poutine.mask(mask=seen):
                pyro.sample("x", dist.Normal(MU[k], 1.0), obs=x)

    found, of = summed(model, lambda x: None, X)
    each = (W.log() + dist.Normal(MU, 1.0).log_prob(X[:, None])).logsumexp(-1) * seen
    torch.testing.assert_close(found.log_p(), 2 * each.sum())
    torch.testing.assert_close(found.log_likelihood(of["p"].nodes["x"]), each)

    def uneven(x):
        with pyro.plate("data", len(x)):
            k = class_of(W)
            with pyro.poutine.scale(scale=2.0):
                pyro.sample("x", dist.Normal(MU[k], 1.0), obs=x)

    found, of = summed(uneven, lambda x: None, X)
    with pytest.raises(vb.errors.Unsuitable, match="scales 1, 2"):
        found.terms(of["layout"])


def test_without_such_sites_nothing_changes():
    pair, batch = vb.pairs.normal_normal(), vb.Batch((X[:2],))
    with pair.initialise(batch).look(), torch.no_grad():
        q, p = pair.run(batch)
        layout = Layout(q, p)
        terms = model_terms(pair.model, batch.args, {}, q, p, layout)
        assert float(layout.total(terms).sum()) == pytest.approx(float(p.log_prob_sum()), rel=1e-6)


# ---- estimators ----------------------------------------------------------------------------------------------------

OTHERS = [kind(num_particles=max(2, kind.min_particles)) if kind.min_particles > 1 else kind() for name, kind in ESTIMATORS.items() if name != "enumerated"]  # fmt: skip


@pytest.mark.parametrize(
    "method", [*OTHERS, Trace_ELBO(), TraceGraph_ELBO(), TraceMeanField_ELBO()], ids=lambda m: type(m).__name__
)
def test_an_estimator_that_would_draw_it_is_refused_before_the_first_step(method):
    with pytest.raises(vb.errors.Unsuitable, match=r"'k'|Site 'loc'") as error:
        vb.fit(pair_of(), X, method, steps=1, **quiet)
    assert "vb.Enumerated()" in str(error.value) or "vb.Trace()" in str(error.value)


@pytest.mark.parametrize(
    "call",
    [
        lambda: vb.fit(pair_of(), X, steps=1, **quiet),
        lambda: vb.fit(pair_of(), X, "trace", steps=1, restarts=2, **quiet),
        lambda: vb.compare(pair_of(), X, ["trace"], **quiet),
        lambda: vb.race(pair_of(), X, ["stl"], steps=2, **quiet),
        lambda: vb.noise_split(pair_of(), X, batch_sizes=(2,), minibatches=10, progress=False),
        lambda: vb.recommend(pair_of(), X, candidates=["pathwise"], **quiet),
        lambda: pyro.infer.SVI(mixture, near, pyro.optim.Adam({"lr": 0.1}), vb.Trace()).step(X),
    ],
    ids=["fit", "restarts", "compare", "race", "noise_split", "recommend", "Pyro's SVI"],
)
def test_so_it_is_wherever_estimators_are_taken(call):
    with (
        pyro.get_param_store().scope(),
        vb.seeded(0),
        pytest.raises(vb.errors.Unsuitable, match=r"'k'|None of pathwise"),
    ):
        call()


def test_a_site_without_a_mark_is_told_of_it():
    def model(x):
        with pyro.plate("data", len(x)):
            pyro.sample("x", dist.Normal(MU[pyro.sample("k", dist.Categorical(W))], 1.0), obs=x)

    with pytest.raises(
        vb.errors.BadPair, match=r"does not sample 'k'.*infer=\{'enumerate': 'parallel'\}.*vb.Enumerated"
    ):
        vb.fit(vb.Pair(model, lambda x: None), X, "enumerated", steps=1, **quiet)


@pytest.mark.parametrize("known", [True, False])
def test_one_hot_classes_are_enumerated(known):
    """A classifier whose labels are known or not, as in a semi-supervised VAE: Pyro's own number after the same seed."""

    def model(x):
        with pyro.plate("data", len(x)):
            y = torch.eye(2)[(x > 0).long()] if known else None
            k = pyro.sample("k", dist.OneHotCategorical(W), obs=y)
            z = pyro.sample("z", dist.Normal(0.0, 1.0))
            pyro.sample("x", dist.Normal(k @ MU + z, 1.0), obs=x)

    def guide(x):
        with pyro.plate("data", len(x)):
            if not known:
                pyro.sample("k", dist.OneHotCategorical(logits=pyro.param("logit", torch.zeros(2))))
            pyro.sample("z", dist.Normal(pyro.param("m", torch.tensor(0.1)), 1.0))

    ours, pyros = [], []
    for found, loss, model_, guide_ in (
        (ours, vb.Enumerated(strict_enumeration_warning=not known, max_plate_nesting=1), model, guide),
        (
            pyros,
            TraceEnum_ELBO(max_plate_nesting=1, strict_enumeration_warning=False),
            *map(pyro.infer.config_enumerate, (model, guide)),
        ),
    ):
        with pyro.get_param_store().scope(), vb.seeded(3):
            found.append(loss.loss(model_, guide_, X))
    assert ours == pytest.approx(pyros, rel=1e-6)
    if not known:
        assert vb.fit(vb.Pair(model, guide), X, "enumerated", steps=2, **quiet).steps == 2


# ---- after training ------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_the_evidence_is_that_of_the_sum():
    truth = evidence_by_hand()
    bound = vb.log_evidence(pair_of(), X, num_particles=800, seed=1, **quiet)
    assert bound.direction == "lower" and abs(bound.value - truth) < 5 * bound.se and bound.se < 0.2
    annealed = vb.log_evidence(pair_of(), X, method="ais", num_particles=20, temperatures=10, **quiet)
    assert abs(annealed.value - truth) < 5 * annealed.se + 0.02


def test_the_posterior_has_the_classes_and_weights_of_the_sum():
    found = vb.posterior(pair_of(), X, draws=200, device="cpu")
    loc, k = found.draws["loc"], found.draws["k"]
    log_w = torch.stack([by_hand(one) for one in loc]).double() - found.log_density
    right = (2 * log_w.logsumexp(0) - (2 * log_w).logsumexp(0)).exp()
    torch.testing.assert_close(found.effective, right, rtol=1e-3, atol=1e-3)
    assert k.shape == (200, 5)
    chance = torch.stack([each_by_hand(one).softmax(-1)[:, 1] for one in loc])
    assert ((k.double().mean(0) - chance.mean(0)).abs() < 5 * (0.25 / 200) ** 0.5).all()
    kept = vb.posterior(pair_of(), X, draws=30, method="importance", proposals=60).draws
    assert kept["k"].shape == (30, 5)


def test_arviz_has_classes_from_their_conditional():
    fit = vb.fit(pair_of(), X, "enumerated", steps=1, learning_rate=1e-9, **quiet)
    found = vb.to_arviz(fit, draws=60)
    loc = torch.as_tensor(found["posterior"]["loc"].values[0])
    each = torch.stack([each_by_hand(one) for one in loc])
    close = {"rtol": 1e-4, "atol": 1e-4}
    torch.testing.assert_close(torch.as_tensor(found["log_likelihood"]["x"].values[0]), each.logsumexp(-1), **close)
    torch.testing.assert_close(
        torch.as_tensor(found["posterior"]["k_probability"].values[0]), each.softmax(-1), **close
    )
    torch.testing.assert_close(
        torch.as_tensor(found["sample_stats"]["log_p"].values[0]), torch.stack([by_hand(one) for one in loc]), **close
    )
    assert found["posterior"]["k_probability"].dims == ("chain", "draw", "data", "k_value")
    k = torch.as_tensor(found["posterior"]["k"].values[0])
    assert ((k.double().mean(0) - each.softmax(-1)[..., 1].mean(0)).abs() < 5 * (0.25 / 60) ** 0.5).all()
    # What is predicted for a row is of the class that was drawn for it.
    made = torch.as_tensor(found["posterior_predictive"]["x"].values[0])
    away = made - loc.gather(1, k)
    assert abs(float(away.mean())) < 5 / 300**0.5 and abs(float(away.std()) - 1) < 0.25
    assert abs(float(found["prior"]["k"].values.mean()) - float(W[1])) < 5 * (0.21 / 300) ** 0.5


def test_two_observations_of_a_class_have_their_likelihood_at_the_class():
    def model(x):
        with pyro.plate("data", len(x)):
            k = class_of(W)
            pyro.sample("x", dist.Normal(MU[k], 1.0), obs=x)
            pyro.sample("y", dist.Normal(2 * MU[k], 1.0), obs=x + 1)

    found, of = summed(model, lambda x: None, X)
    at = MU[found.drawn.nodes["k"]["value"]]
    torch.testing.assert_close(found.log_likelihood(of["p"].nodes["y"]), dist.Normal(2 * at, 1.0).log_prob(X + 1))


def test_a_comparison_does_not_call_it_biased():
    pyros = TraceEnum_ELBO(max_plate_nesting=1)
    found = vb.compare(
        pair_of(), X, {"ours": "enumerated", "pyro's": pyros}, at={"here": pair_of()}, replicas=100, **quiet
    )
    table = found.to_dataframe().set_index("estimator")
    assert table.loc[["ours"]].bias_z.isna().all() and (table.loc[["pyro's"]].bias_z.abs() < 4).all()


@pytest.mark.slow
def test_what_is_measured_where_nobody_says_by_what():
    found = vb.compare(pair_of(), X, steps=2, replicas=100, **quiet)
    assert found.estimators == ("enumerated",)
    raced = vb.race(pair_of(), X, ["enumerated"], steps=2, seeds=1, evaluations=1, **quiet).to_dataframe()
    elbo = vb.log_evidence(pair_of(), X, method="elbo", num_particles=400, **quiet)
    assert raced.elbo_per_datum.iloc[0] == pytest.approx(elbo.value / 5, abs=0.1)


@pytest.mark.slow
def test_what_is_missing_is_filled_in_from_the_class_that_the_rest_tells():
    """E[x₂ | x₁] = Σ_k p(k | x₁) (μ_k + E[z | x₁, k]) of x_j = μ_k + z + noise; a class from the prior would mix both."""
    mu = torch.tensor([-4.0, 4.0])

    def model(x):
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", dist.Normal(0.0, 1.0))
            loc = z + mu[class_of(W)]
            pyro.sample("x", dist.Normal(loc.unsqueeze(-1), torch.ones(2)).to_event(1), obs=x)

    def guide(x):
        with pyro.plate("data", len(x)):
            pyro.sample("z", dist.Normal(torch.zeros(len(x)), 1.0))

    x = torch.tensor([[-4.5, 0.0], [3.0, 0.0]])
    found = vb.impute(vb.Pair(model, guide), x, torch.tensor([True, False]), draws=800, progress=False)
    chance = (W.log() + dist.Normal(mu, 2**0.5).log_prob(x[:, :1])).softmax(-1)
    right = (chance * (mu + (x[:, :1] - mu) / 2)).sum(-1)
    assert ((found.x[:, 1] - right).abs() < 0.35).all()


def test_a_code_does_not_say_what_is_rebuilt_from_it():
    def model(x):
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", dist.Normal(torch.zeros(1), 1.0).to_event(1))
            pyro.sample("x", dist.Normal(z.squeeze(-1) + MU[class_of(W)], 1.0), obs=x)

    def guide(x):
        with pyro.plate("data", len(x)):
            pyro.sample("z", dist.Normal(x[:, None] / 2, 1.0).to_event(1))

    pair = vb.Pair(model, guide)
    for call in (vb.reconstruct, vb.LatentSpace):
        with pytest.raises(vb.errors.Unsuitable, match="sums out 'k'"):
            call(pair, X)
    assert vb.latent_use(pair, X).kl.notna().all()  # the prior of z is one normal

    def of_class(x):
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", dist.Normal(MU[class_of(W)].unsqueeze(-1), 1.0).to_event(1))
            pyro.sample("x", dist.Normal(z.squeeze(-1), 1.0), obs=x)

    with pytest.raises(vb.errors.Unsuitable, match="prior of 'z' depends on latents that the model"):
        vb.latent_use(vb.Pair(of_class, guide), X)
