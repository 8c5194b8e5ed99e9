"""Where code was written for Pyro's ELBO classes."""

from __future__ import annotations

import inspect

import pyro
import pytest
import torch
from pyro.infer import ELBO, SVI, Trace_ELBO

import vbayes as vb
from tests.models import X, binary, coin, masked, mixed, nested, sequential, small_vae, subsampled
from vbayes.estimators.learned import Learned
from vbayes.estimators.remembering import Remembering
from vbayes.laboratory.replicas import Replicas
from vbayes.staging import draw_noise

BATCH = vb.Batch((X.float(),))
KINDS = list(vb.ESTIMATORS.values())


@pytest.mark.parametrize("kind", KINDS, ids=lambda k: k.__name__)
def test_it_takes_the_keywords_of_pyros_elbos(kind):
    wanted = set(inspect.signature(ELBO.__init__).parameters) - {
        "self",
        "ignore_jit_warnings",
        "max_iarange_nesting",
        "jit_options",
        "tail_adaptive_beta",
    }
    made = kind(
        num_particles=4,
        max_plate_nesting=1,
        vectorize_particles=True,
        retain_graph=True,
        strict_enumeration_warning=False,
    )
    assert {name: getattr(made, name) for name in wanted} == {
        "num_particles": 4, "max_plate_nesting": 1, "vectorize_particles": True, "retain_graph": True, "strict_enumeration_warning": False,
    }  # fmt: skip
    with pytest.raises(TypeError):
        kind(numparticles=4)


def pairs_for(kind) -> list[tuple[vb.Pair, vb.Batch]]:
    table = torch.linspace(-1, 2, 12).reshape(4, 3)
    every = [
        (vb.pairs.normal_normal(), BATCH), (coin(), BATCH), (small_vae(), vb.Batch((binary(),), 36)), (mixed(), vb.Batch((X.float(),), 10)),
        (nested(), vb.Batch((table,), 12)), (masked(), vb.Batch((table,))), (sequential(), vb.Batch((table,))), (subsampled(), vb.Batch((table,))),
    ]  # fmt: skip
    suited = []
    for pair, batch in every:
        try:
            with pair.initialise(batch).scope(), vb.seeded(0):
                kind().draw(pair, batch)
            suited.append((pair, batch))
        except vb.errors.Unsuitable as error:
            assert "Use vb." in str(error)  # and says what would do
    return suited


@pytest.mark.parametrize("kind", KINDS, ids=lambda k: k.__name__)
def test_loss_differentiable_loss_and_gradients_agree(kind):
    """In every shape of plates, masks and scales that the estimator can work on."""
    suited = pairs_for(kind)
    assert suited
    for pair, batch in suited:
        estimator = kind()
        model, guide = pair.scaled(batch.total)
        with pair.scope():
            leaves = pair.leaves
            with vb.seeded(1):
                loss = estimator.loss(model, guide, *batch.args)
            with vb.seeded(1):
                differentiable = kind().differentiable_loss(model, guide, *batch.args)
            grads = torch.autograd.grad(
                differentiable, list(leaves.values()), allow_unused=True, materialize_grads=True
            )
            with vb.seeded(1):
                also = kind().loss_and_grads(model, guide, *batch.args)
            assert loss == pytest.approx(differentiable.item(), rel=1e-5) and loss == pytest.approx(also, rel=1e-5)
            for leaf, g in zip(leaves.values(), grads, strict=True):
                torch.testing.assert_close(torch.zeros_like(leaf) if leaf.grad is None else leaf.grad, g)


@pytest.mark.parametrize("kind", KINDS, ids=lambda k: k.__name__)
def test_elbo_of_a_model_and_a_guide_is_a_module(kind):
    pair, batch = pairs_for(kind)[0]
    with pyro.get_param_store().scope(), vb.seeded(0):
        module = kind()(pair.model, pair.guide)
        loss = module(*batch.args)
        assert loss.shape == () and loss.requires_grad


def test_retain_graph_is_handed_on():
    pair = vb.pairs.normal_normal().initialise(BATCH)
    kept = []
    guide = lambda x: kept.append(pair.guide(x))  # noqa: E731
    with pair.scope(), vb.seeded(0):
        vb.Pathwise(retain_graph=True).loss_and_grads(pair.model, guide, *BATCH.args)


def test_enumeration_asks_for_something_to_enumerate():
    pair = vb.pairs.normal_normal().initialise(BATCH)
    with pair.scope(), vb.seeded(0), pytest.raises(vb.errors.Unsuitable, match="site that can be enumerated"):
        vb.Enumerated().loss(pair.model, pair.guide, *BATCH.args)
    with pair.scope(), vb.seeded(0):
        relaxed = vb.Enumerated(strict_enumeration_warning=False).loss(pair.model, pair.guide, *BATCH.args)
    with pair.scope(), vb.seeded(0):
        pair.run(BATCH)  # the look at the plates draws once
        expected = Trace_ELBO().loss(pair.model, pair.guide, *BATCH.args)
    assert relaxed == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize(
    ("estimator", "pair", "message"),
    [
        (vb.STL(), coin, "Site 'b' of the guide has no reparameterised path"),
        (vb.IWAE(), coin, "Use vb.Trace\\(\\), vb.RaoBlackwell\\(\\), vb.RLOO\\(\\) or vb.VIMCO"),
        (
            vb.DisARM(),
            vb.pairs.normal_normal,
            "Site 'z' of the guide is Normal. This estimator needs every site to be Bernoulli",
        ),
        (vb.GumbelSoftmax(), vb.pairs.normal_normal, "Bernoulli or OneHotCategorical"),
        (vb.REBAR(), mixed, "Site 'g' of the guide is Normal"),
    ],
)
def test_an_estimator_that_does_not_fit_says_so_before_the_first_step(estimator, pair, message):
    with pytest.raises(vb.errors.Unsuitable, match=message):
        vb.fit(pair(), X.float(), estimator, steps=5, progress=False)


def test_a_guide_whose_sites_depend_on_each_other_is_refused_by_disarm():
    def model(x):
        a = pyro.sample("a", pyro.distributions.Bernoulli(torch.tensor(0.4)))
        b = pyro.sample("b", pyro.distributions.Bernoulli(torch.tensor(0.4)))
        pyro.sample("x", pyro.distributions.Normal(a + b, 1.0), obs=x)

    def guide(x):
        a = pyro.sample("a", pyro.distributions.Bernoulli(logits=pyro.param("qa", lambda: torch.tensor(0.0))))
        pyro.sample("b", pyro.distributions.Bernoulli(logits=pyro.param("qb", lambda: torch.tensor(0.3)) + a))

    with pytest.raises(vb.errors.Unsuitable, match="'b' of the guide depends on the draw of a"):
        vb.fit(vb.Pair(model, guide), torch.ones(1), vb.DisARM(8), steps=5, progress=False)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: vb.RLOO(1), "Wanted: an integer of at least 2"),
        (lambda: vb.DisARM(3), "even number"),
        (lambda: vb.MIWAE(5, groups=2), "divides the number of particles"),
        (lambda: vb.CIWAE(beta=1.5), "at least 0 and at most 1"),
        (lambda: vb.Renyi(alpha=1), "or vb.Pathwise"),
        (lambda: vb.TVO(betas=(0.5, 0.2)), "start at 0"),
        (lambda: vb.REBAR(temperature=0), "above 0"),
        (lambda: vb.GumbelSoftmax(temperature=-1), "above 0"),
        (lambda: vb.Baselined(decay=1), "below 1"),
        (lambda: vb.Beta(beta=-1.0), "at least 0"),
        (lambda: vb.Beta(warm_up=0.5), "warm_up=0.5\\) is not an integer"),
    ],
)
def test_settings_that_make_no_sense(make, message):
    with pytest.raises(vb.errors.BadInput, match=message):
        make()


# ---- memory ------------------------------------------------------------------------------------------------------------

REMEMBERING = [
    pytest.param(kind, marks=pytest.mark.slow if issubclass(kind, Learned) else (), id=kind.__name__)
    for kind in KINDS
    if issubclass(kind, Remembering)
]


def home(kind) -> vb.Pair:
    """A pair that suits it."""
    return coin() if "bernoulli" in kind.families else vb.pairs.normal_normal()


@pytest.mark.parametrize("kind", REMEMBERING)
@pytest.mark.parametrize("compile", [True, False])
def test_what_it_remembers_belongs_to_the_fit(kind, compile, tmp_path):
    pair, estimator, data = home(kind), kind(), X.float()
    options = {"compile": compile, "progress": False, "learning_rate": 0.01}
    whole = vb.fit(pair, data, estimator, steps=60, **options)
    half = vb.fit(pair, data, estimator, steps=30, **options)
    other = vb.fit(pair, data + 1, estimator, steps=20, **options)  # between the halves
    other.save(tmp_path / "other.safetensors")
    half.save(tmp_path / "half.safetensors")
    again = vb.Fit.load(tmp_path / "half.safetensors", pair, data, estimator=kind())
    for resumed in (half.resume(steps=30, progress=False), again.resume(steps=30, progress=False)):
        assert resumed.history.elbo.tolist() == whole.history.elbo.tolist()
        assert all(
            torch.equal(a, b) for a, b in zip(resumed.pair.state().values(), whole.pair.state().values(), strict=True)
        )
    assert not any(estimator.memory.buffers())  # nobody wrote into the caller's


@pytest.mark.parametrize("kind", REMEMBERING)
def test_memory_in_plain_svi_and_in_ours(kind):
    losses = []
    for make in (SVI, vb.SVI):
        pyro.clear_param_store()
        pair = home(kind)
        with vb.seeded(0):
            options = {"compile": True} if make is vb.SVI else {}
            svi = make(pair.model, pair.guide, pyro.optim.Adam({"lr": 0.02}), loss=kind(2), **options)
            losses.append([svi.step(X.float()) for _ in range(50)])
    pyro.clear_param_store()
    assert losses[0] == pytest.approx(losses[1], rel=1e-4)


def variance(pair: vb.Pair, batch: vb.Batch, name: str) -> float:
    replicas = Replicas(pair, vb.ESTIMATORS[name](), batch)
    with vb.seeded(0):
        noise = draw_noise(replicas.sizes, 4000, torch.zeros(()))
    return float(torch.cat(list(replicas.gradients(pair, noise, 0))).var(0).sum())


def test_a_baseline_takes_variance_out():
    """Log w at 100 from zero: without a baseline, all of that is noise."""

    def model(x):
        z = pyro.sample("z", pyro.distributions.Normal(x.new_zeros(()), 1.0))
        pyro.sample("x", pyro.distributions.Normal(z, 0.05), obs=x)

    def guide(x):
        pyro.sample("z", pyro.distributions.Normal(pyro.param("loc", lambda: torch.tensor(0.5)), 0.1))

    batch = vb.Batch((torch.tensor(1.0),))
    pair = vb.Pair(model, guide).initialise(batch)
    assert variance(pair, batch, "baselined") < 0.7 * variance(pair, batch, "score")


def test_adaptive_stl_is_as_good_as_the_better_of_its_ends():
    """Near the posterior it takes the score term out, as STL does; for q four times too narrow, where STL is worse, it leaves it in."""
    ratios = []
    for log_scale, loc in ((-0.3, (-0.2, 0.9)), (-1.7, (0.0, 0.0))):
        pair = vb.pairs.normal_normal().initialise(BATCH)
        pair.load({"loc": torch.tensor(loc), "scale": torch.tensor(log_scale)})
        found = {name: variance(pair, BATCH, name) for name in ("pathwise", "stl", "adaptive_stl")}
        assert found["adaptive_stl"] < 1.1 * min(found["pathwise"], found["stl"]), found
        ratios.append(found["pathwise"] / found["stl"])
    assert ratios[0] > 3 and ratios[1] < 1, ratios
