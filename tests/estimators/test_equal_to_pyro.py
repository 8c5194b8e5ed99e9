"""On the same draws: Trace is Pyro's Trace_ELBO, AnalyticKL is TraceMeanField_ELBO where that is right."""

from __future__ import annotations

from contextlib import nullcontext

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro import poutine
from pyro.infer import SVI, Trace_ELBO, TraceMeanField_ELBO

import vbayes as vb
from tests.models import X, binary, coin, masked, mixed, nested, schools_by_hand, sequential, small_vae, subsampled
from tests.tractable import small, suits
from vbayes.estimators.base import gradient

pytestmark = pytest.mark.usefixtures("double")


def schools() -> tuple[torch.Tensor, ...]:
    return tuple(vb.data.eight_schools().tensors[k].double() for k in ("y", "sigma"))


def table() -> tuple[torch.Tensor, ...]:
    return (torch.linspace(-1, 2, 12).reshape(4, 3),)


def loss_and_gradient(pair, elbo, args, total):
    """Both on draws from seed 3, at parameters moved away from special values."""
    batch = vb.Batch(args, total)
    pair = pair.copy().initialise(batch)
    with vb.seeded(2):
        pair.load({k: v + 0.1 * torch.randn_like(v) for k, v in pair.parameters.items()})
    model, guide = pair.scaled(total)
    with pair.scope(), pyro.validation_enabled(False):  # Pyro would warn of a site that mean field can't treat
        with vb.seeded(3):
            loss = elbo.loss(model, guide, *args)
        with vb.seeded(3):
            grads = gradient(elbo, model, guide, *args)
    return loss, grads


def check_equal(ours, theirs, except_for=()):
    (loss, grads), (their_loss, their_grads) = ours, theirs
    assert loss == pytest.approx(their_loss, rel=1e-12)
    assert set(grads) == set(their_grads)
    for name in set(grads) - set(except_for):
        torch.testing.assert_close(grads[name], their_grads[name], rtol=1e-10, atol=1e-10, msg=name)
    assert any(g.abs().max() > 1e-3 for g in grads.values())


CASES = {
    "vae": (small_vae, lambda: (binary(),), None),
    "vae minibatch": (small_vae, lambda: (binary(),), 36),
    "eight schools, AutoNormal": (vb.pairs.eight_schools, schools, None),
    "eight schools, by hand": (schools_by_hand, schools, None),
    "eight schools, by hand, minibatch": (schools_by_hand, schools, 24),
    "mixed": (mixed, lambda: (X,), None),
    "mixed, minibatch": (mixed, lambda: (X,), 10),
    "nested plates": (nested, table, None),
    "nested plates, minibatch": (nested, table, 12),
    "masked": (masked, table, None),
    "masked, minibatch": (masked, table, 12),
    "sequential plate": (sequential, table, 12),
    "subsampling plate": (subsampled, table, 4),
}
PATHLESS = ("mixed", "nested", "sequential")  # Pyro's TraceMeanField_ELBO has no score term


@pytest.mark.parametrize("particles", [1, 3])
@pytest.mark.parametrize("case", CASES)
def test_trace(case, particles):
    make, args, total = CASES[case]
    pair, args = make(), args()
    ours = loss_and_gradient(pair, vb.Trace(particles), args, total)
    theirs = loss_and_gradient(pair, Trace_ELBO(num_particles=particles), args, total)
    check_equal(ours, theirs)


@pytest.mark.parametrize("case", [c for c in CASES if "AutoNormal" not in c and not c.startswith(PATHLESS)])
def test_analytic_kl(case):
    make, args, total = CASES[case]
    pair, args = make(), args()
    ours = loss_and_gradient(pair, vb.AnalyticKL(), args, total)
    check_equal(ours, loss_and_gradient(pair, TraceMeanField_ELBO(), args, total))
    trace_loss, _ = loss_and_gradient(pair, vb.Trace(), args, total)
    assert abs(trace_loss - ours[0]) > 1e-6  # the closed form was used


def test_analytic_kl_with_a_site_that_has_no_path():
    """Pyro has the loss right, and no score-function gradient for that site: `AnalyticKL` adds it."""

    def model(x):
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", dist.Normal(x.new_zeros(()), 1.0))
            b = pyro.sample("b", dist.Bernoulli(x.new_full((), 0.3)))
            w = pyro.param("w", lambda: torch.tensor(1.3))
            pyro.sample("x", dist.Normal(w * z + b, 1.0), obs=x)

    def guide(x):
        loc = pyro.param("loc", lambda: torch.tensor([0.2, 0.7]))
        logit = pyro.param("logit", lambda: torch.tensor([0.5, -1.0]))
        with pyro.plate("data", len(x)):
            pyro.sample("z", dist.Normal(loc, 0.8))
            pyro.sample("b", dist.Bernoulli(logits=logit))

    pair = vb.Pair(model, guide)
    ours = loss_and_gradient(pair, vb.AnalyticKL(), (X,), None)
    with pyro.validation_enabled(False):
        theirs = loss_and_gradient(pair, TraceMeanField_ELBO(), (X,), None)
    check_equal(ours, theirs, except_for={"logit"})
    assert (ours[1]["logit"] - theirs[1]["logit"]).abs().max() > 1e-3


def test_pyros_mean_field_elbo_is_wrong_for_autoguides_over_constrained_sites():
    """Its KL of a point mass leaves out the Jacobian of tau; ours samples there, and agrees with Trace_ELBO in the mean."""
    batch = vb.Batch(schools())
    pair = vb.pairs.eight_schools().initialise(batch)
    pair.load({"AutoNormal.locs.tau": torch.tensor(1.0)})  # E_q[ln dτ/dz] = E_q[z] = 1
    means = {}
    for elbo in (vb.AnalyticKL(), Trace_ELBO(), TraceMeanField_ELBO()):
        with pair.scope(), vb.seeded(0):
            losses = torch.tensor([elbo.loss(pair.model, pair.guide, *batch.args) for _ in range(300)])
        means[type(elbo).__name__] = losses.mean(), losses.std() / 300**0.5
    ours, truth, pyros = means.values()
    assert abs(ours[0] - truth[0]) < 4 * (ours[1] ** 2 + truth[1] ** 2).sqrt()
    assert abs(pyros[0] - truth[0] - 1.0) < 0.02  # the same seed, so only the Jacobian differs


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(
            name,
            marks=() if name in ("analytic_kl", "adaptive_stl", "disarm", "enumerated", "iwae") else pytest.mark.slow,
        )
        for name in vb.ESTIMATORS
    ],
)
def test_plain_pyro_svi_takes_them(name):
    pair, x, estimator = small_vae(), binary().double(), small(name)
    if not suits(estimator, pair, vb.Batch((x,))):
        pair, x = coin(), X
    with pyro.get_param_store().scope(), vb.seeded(0):
        svi = SVI(pair.model, pair.guide, pyro.optim.Adam({"lr": 0.05}), loss=estimator)
        before = sum(svi.evaluate_loss(x) for _ in range(10))
        for _ in range(40):
            svi.step(x)
        assert sum(svi.evaluate_loss(x) for _ in range(10)) < before


@pytest.mark.parametrize("changed", ["model", "guide"])
@pytest.mark.parametrize("how", [{"scale": 0.1}, {"scale": torch.tensor(0.1)}, {"mask": torch.arange(6) % 2 == 0}])
def test_analytic_kl_has_the_scales_and_masks_of_model_and_guide_apart(how, changed):
    """Pyro's TraceMeanField_ELBO has those of the guide for both, so its value is not that of Trace_ELBO."""
    x = torch.linspace(-1.0, 2.0, 6, dtype=torch.float64)

    def alone(where):
        handler = poutine.scale if "scale" in how else poutine.mask
        return handler(**how) if where == changed else nullcontext()

    def model(x):
        with pyro.plate("data", len(x)), alone("model"):
            z = pyro.sample("z", dist.Normal(x.new_zeros(()), 1.0))
        with pyro.plate("more", len(x)):
            pyro.sample("x", dist.Normal(z, 0.5), obs=x)

    def guide(x):
        loc = pyro.param("loc", lambda: x.new_tensor(0.7))
        with pyro.plate("data", len(x)), alone("guide"):
            pyro.sample("z", dist.Normal(loc * x, 0.4))

    pair = vb.Pair(model, guide).initialise(vb.Batch((x,)))
    with pair.scope(), vb.seeded(3):
        z = poutine.trace(guide).get_trace(x).nodes["z"]["value"].detach()
    weight = next(iter(how.values())) * torch.ones(6, dtype=torch.float64)
    s, r = (weight if changed == where else torch.ones_like(weight) for where in ("model", "guide"))
    q, p = dist.Normal(0.7 * x, 0.4), dist.Normal(x.new_zeros(()), 1.0)
    right = (s - r) * p.log_prob(z) - r * torch.distributions.kl_divergence(q, p) + dist.Normal(z, 0.5).log_prob(x)
    with pair.scope(), vb.seeded(3):
        loss = vb.AnalyticKL().loss(model, guide, x)
    assert loss == pytest.approx(-float(right.sum()), abs=1e-10)
    assert not vb.fit(pair, x, steps=2, compile="torch", progress=False).engine.startswith(
        "Pyro"
    )  # masks are no branch
