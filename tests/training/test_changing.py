"""A model that changes beside its arguments: the next step sees it, compiled or not."""

from __future__ import annotations

import functools
import types
import warnings

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro.infer import Trace_ELBO
from torch import nn

import vbayes as vb
from tests.quick import some_quick

BETA = 1.0
FLAGS = {"wide": False}


@pytest.fixture(autouse=True)
def scratch(double):
    """A param store and generators of the test's own."""
    with pyro.get_param_store().scope(), vb.seeded(0):
        yield


def x():
    return torch.linspace(-1.0, 2.0, 20, dtype=torch.float64)


def guide(x):
    loc = pyro.param("loc", lambda: torch.tensor(0.3, dtype=torch.float64))
    scale = pyro.param("scale", lambda: torch.tensor(0.5, dtype=torch.float64), constraint=dist.constraints.positive)
    pyro.sample("z", dist.Normal(loc, scale))


def likelihood(x, z):
    with pyro.plate("data", len(x)):
        pyro.sample("x", dist.Normal(z, 1.0), obs=x)


def in_a_closure():
    beta = 1.0

    def model(x):
        with pyro.poutine.scale(scale=beta):
            z = pyro.sample("z", dist.Normal(0.0, 1.0))
        likelihood(x, z)

    def change(value):
        nonlocal beta
        beta = value

    return model, change


def in_a_global():
    def model(x):
        likelihood(x, pyro.sample("z", dist.Normal(0.0, BETA)))

    def change(value):
        globals()["BETA"] = value

    change(1.0)
    return model, change


class Annealed(nn.Module):
    def __init__(self):
        super().__init__()
        self.beta = 1.0
        self.linear = nn.Linear(1, 1)

    def model(self, x):
        z = pyro.sample("z", dist.Normal(0.0, 1.0).expand([]))
        likelihood(x, z * self.weight())

    def weight(self):
        return 0.5 + 0.5 * self.beta


def in_an_attribute():
    module = Annealed()
    return module.model, functools.partial(setattr, module, "beta")


def in_a_tensor():
    held = types.SimpleNamespace(beta=torch.tensor(1.0, dtype=torch.float64))

    def model(x):
        likelihood(x, pyro.sample("z", dist.Normal(0.0, held.beta)))

    return model, lambda value: held.beta.fill_(value)


def a_branch():
    held = {"beta": 1.0}

    def model(x):
        likelihood(x, pyro.sample("z", dist.Normal(0.0, 1.0 if held["beta"] > 0.8 else 0.3)))

    return model, functools.partial(held.__setitem__, "beta")


def a_flag():
    def model(x):
        likelihood(x, pyro.sample("z", dist.Normal(0.0, 3.0 if FLAGS["wide"] else 1.0)))

    FLAGS["wide"] = False
    return model, lambda value: FLAGS.__setitem__("wide", value < 0.6)


PLACES = [in_a_closure, in_a_global, in_an_attribute, in_a_tensor, a_branch, a_flag]
ONCE = [1.0] * 70 + [0.25] * 30
ANNEALED = [0.1 + 0.9 * i / 60 for i in range(60)]


def run(kind, place, values, loss=None):
    pyro.clear_param_store()
    pyro.set_rng_seed(3)
    model, change = place()
    svi = kind(model, guide, pyro.optim.Adam({"lr": 0.05}), loss=loss or Trace_ELBO())
    losses = []
    for value in values:
        change(value)
        losses.append(svi.step(x()))
    return losses, {name: value.detach().clone() for name, value in pyro.get_param_store().items()}, svi


@pytest.mark.parametrize("loss", some_quick([Trace_ELBO, vb.STL], [Trace_ELBO]), ids=["Trace_ELBO", "STL"])
@pytest.mark.parametrize("values", [ONCE, ANNEALED], ids=["once", "annealed"])
@pytest.mark.parametrize("place", PLACES)
def test_the_numbers_of_pyro(place, values, loss):
    theirs = run(pyro.infer.SVI, place, values, loss())
    with warnings.catch_warnings():
        warnings.simplefilter("error" if place is not a_branch else "ignore")  # no input, as the model branches on it
        mine = run(functools.partial(vb.SVI, compile=True), place, values, loss())
    assert mine[0] == pytest.approx(theirs[0], rel=1e-8)
    torch.testing.assert_close(mine[1], theirs[1], rtol=1e-8, atol=1e-8)
    if place in PLACES[:4]:
        (program,) = mine[2]._staged.values()
        assert len(program._fed.places) == 1  # compiled twice at most, however long it changes


def test_what_keeps_changing_and_cannot_be_an_input_goes_on_by_pyro():
    """Whole numbers may be sizes, and are built in."""
    held = types.SimpleNamespace(step=0)

    def model(x):
        likelihood(x, pyro.sample("z", dist.Normal(0.0, 1.0 + min(1, held.step / 40))))

    def place():
        return model, functools.partial(setattr, held, "step")

    theirs = run(pyro.infer.SVI, place, range(60))
    with pytest.warns(
        UserWarning, match=r"Pair 'model' reads `held.step` besides its arguments; that keeps changing"
    ) as caught:
        mine = run(functools.partial(vb.SVI, compile=True), place, range(60))
    assert len(caught) == 1
    assert mine[0] == pytest.approx(theirs[0], rel=1e-9)


def test_what_no_code_of_the_model_names_may_change():
    """The trainer's own notes, such as the last loss."""

    class Trainer:
        def __init__(self):
            self.losses, self.last, self.calls = [], 0.0, 0

        def model(self, x):
            self.calls += 1
            likelihood(x, pyro.sample("z", dist.Normal(0.0, 1.0)))

    trainer = Trainer()
    svi = vb.SVI(trainer.model, guide, pyro.optim.Adam({"lr": 0.05}), loss=Trace_ELBO(), compile=True)
    for _ in range(70):
        trainer.last = svi.step(x())
        trainer.losses.append(trainer.last)
    (program,) = svi._staged.values()
    assert program.taken == 69


def test_another_guide_optimiser_or_loss():
    def other(x):
        pyro.sample("z", dist.Normal(pyro.param("loc"), 0.1))

    def run(kind):
        pyro.clear_param_store()
        pyro.set_rng_seed(3)
        elbo = vb.Trace()
        svi = kind(in_a_closure()[0], guide, pyro.optim.Adam({"lr": 0.05}), loss=elbo)
        losses = [svi.step(x()) for _ in range(5)]
        svi.guide = other
        losses += [svi.step(x()) for _ in range(5)]
        svi.optim = pyro.optim.SGD({"lr": 1e-3})
        losses += [svi.step(x()) for _ in range(5)]
        svi.loss_and_grads = vb.Trace(num_particles=2).loss_and_grads
        return losses + [svi.step(x()) for _ in range(5)]

    assert run(functools.partial(vb.SVI, compile=True)) == pytest.approx(run(pyro.infer.SVI), rel=1e-9)


def test_a_pyro_elbo_that_is_told_of_more_particles():
    def run(kind):
        pyro.clear_param_store()
        pyro.set_rng_seed(3)
        elbo = Trace_ELBO()
        svi = kind(in_a_closure()[0], guide, pyro.optim.Adam({"lr": 0.05}), loss=elbo)
        losses = [svi.step(x()) for _ in range(5)]
        elbo.num_particles = 3
        return losses + [svi.step(x()) for _ in range(5)]

    assert run(functools.partial(vb.SVI, compile=True)) == pytest.approx(run(pyro.infer.SVI), rel=1e-9)


@pytest.mark.parametrize("restarts", [None, 2])
def test_a_fit_whose_model_a_callback_changes(restarts):
    """The prior's scale goes from 1 to .1: log p(x) of the exact posterior is what the ELBO rises to."""
    model, change = in_a_global()
    pair = vb.Pair(model, guide)

    def calmer(state):
        change(0.1)

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            fit = vb.fit(
                pair, x(), steps=1500, learning_rate=0.02, estimator=vb.AnalyticKL(), compile=True, seed=0, callbacks=[calmer],
                progress=False, **({} if restarts is None else {"restarts": restarts}),
            )  # fmt: skip
        best = fit if restarts is None else fit.best
        precision = 20 + 0.1**-2
        assert float(best.pair.parameters["loc"]) == pytest.approx(float(x().sum() / precision), abs=0.02)
    finally:
        change(1.0)


def test_unwatched_changes_are_found_at_a_bounded_distance():
    """A file, here a generator that no code can look into."""
    scales = iter([1.0] * 9 + [0.2] * 10**6)

    def model(x):
        likelihood(x, pyro.sample("z", dist.Normal(0.0, next(scales))))

    svi = vb.SVI(model, guide, pyro.optim.Adam({"lr": 0.05}), loss=Trace_ELBO(), compile=True)
    with pytest.warns(UserWarning, match=r"has changed since it was captured, \d+ steps ago") as caught:
        for _ in range(40):
            svi.step(x())
    assert int(str(caught[0].message).split(" steps ago")[0].split()[-1]) <= 16
