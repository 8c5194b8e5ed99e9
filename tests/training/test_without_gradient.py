"""Parameters that no gradient reaches: torch's optimisers leave them alone, and so do compiled steps."""

from __future__ import annotations

import functools
import warnings

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro.infer import Trace_ELBO
from pyro.nn import PyroModule
from torch import nn

import vbayes as vb

OPTIMISERS = {
    "Adam": (torch.optim.Adam, {"lr": 0.05, "weight_decay": 0.3}),
    "AdamW": (torch.optim.AdamW, {"lr": 0.05, "weight_decay": 0.3}),
    "SGD": (torch.optim.SGD, {"lr": 1e-3, "momentum": 0.9, "weight_decay": 0.3}),
    "Adagrad": (torch.optim.Adagrad, {"lr": 0.05, "weight_decay": 0.3}),
    "RMSprop": (torch.optim.RMSprop, {"lr": 0.01, "momentum": 0.5, "centered": True, "weight_decay": 0.3}),
    "ClippedAdam": (pyro.optim.clipped_adam.ClippedAdam, {"lr": 0.05, "lrd": 0.95, "weight_decay": 0.3}),
    "NAdam": (torch.optim.NAdam, {"lr": 0.05, "weight_decay": 0.3}),  # which has no pure form
}


@pytest.fixture(autouse=True)
def scratch(double):
    """A param store and generators of the test's own."""
    with pyro.get_param_store().scope(), vb.seeded(0):
        yield


class FrozenBase(nn.Module):
    """A regression on features that are not trained, with a head that is; `warm` lets gradients through to the base."""

    def __init__(self):
        super().__init__()
        self.base, self.head = nn.Linear(2, 3), nn.Linear(3, 1)

    def model(self, x, y, warm=False):
        pyro.module("net", self)
        with torch.set_grad_enabled(warm):
            features = self.base(x).tanh()
        z = pyro.sample("z", dist.Normal(0.0, 1.0))
        with pyro.plate("data", len(x)):
            pyro.sample("y", dist.Normal(self.head(features)[:, 0] + z, 1.0), obs=y)

    def guide(self, x, y, warm=False):
        pyro.sample("z", dist.Normal(pyro.param("loc", torch.tensor(0.1)), 0.5))

    def nothing(self, x, y, warm=False):
        """The guide of the same model with its draw fixed: without noise, whatever takes the steps has the same numbers."""


@functools.cache
def data():
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(20, 2, generator=generator, dtype=torch.float64)
    return x, x.sum(1).sin()


def trained(kind, optimiser, warm, loss=None):
    pyro.clear_param_store()
    pyro.set_rng_seed(3)
    net, (constructor, options) = FrozenBase(), OPTIMISERS[optimiser]
    svi = kind(net.model, net.guide, pyro.optim.PyroOptim(constructor, options), loss=loss or Trace_ELBO())
    before = net.base.weight.detach().clone()
    losses = [svi.step(*data(), warm=each) for each in warm]
    return losses, net.state_dict(), svi, torch.equal(before, net.base.weight), svi.optim.get_state()


COLD = [False] * 25
THAWED = [False] * 6 + [True] * 6 + [False] * 6 + [True, False] * 3


@pytest.mark.parametrize("optimiser", OPTIMISERS)
@pytest.mark.parametrize("warm", [COLD, THAWED], ids=["frozen", "thawed and frozen again"])
def test_the_numbers_of_pyro(optimiser, warm):
    theirs = trained(pyro.infer.SVI, optimiser, warm)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        mine = trained(functools.partial(vb.SVI, compile=True), optimiser, warm)
    assert mine[0] == pytest.approx(theirs[0], rel=1e-9)
    for name, value in theirs[1].items():
        torch.testing.assert_close(mine[1][name], value, rtol=1e-9, atol=1e-9)
    right, states = theirs[4], mine[4]
    assert states.keys() == right.keys()
    for name in right:
        assert states[name]["state"].keys() == right[name]["state"].keys()
        assert states[name]["param_groups"][0]["lr"] == pytest.approx(right[name]["param_groups"][0]["lr"])
    if warm is COLD:
        assert mine[3]
        (program,) = mine[2]._staged.values()
        assert program._program.still == {"net$$$base.weight", "net$$$base.bias"}
        assert optimiser == "NAdam" or program._state is not None  # the whole step is one program


def test_many_particles_and_an_estimator_of_ours():
    theirs = trained(pyro.infer.SVI, "AdamW", COLD, vb.STL(num_particles=3))
    mine = trained(functools.partial(vb.SVI, compile=True), "AdamW", COLD, vb.STL(num_particles=3))
    assert mine[0] == pytest.approx(theirs[0], rel=1e-9) and mine[3]


@pytest.mark.parametrize("optimiser", OPTIMISERS)
@pytest.mark.parametrize("batch_size", [None, 8])
def test_fits_compiled_or_not(optimiser, batch_size):
    constructor, options = OPTIMISERS[optimiser]

    def fitted(compiled):
        pyro.set_rng_seed(3)
        net = FrozenBase()
        model = pyro.poutine.condition(net.model, {"z": torch.tensor(0.0)})
        pair = vb.Pair(model, net.nothing)
        optim = functools.partial(constructor, **{k: v for k, v in options.items() if k != "lr"})
        return vb.fit(
            pair, data(), steps=20, optimizer=optim, learning_rate=options["lr"], estimator=vb.Trace(), batch_size=batch_size,
            compile=compiled, seed=0, progress=False,
        )  # fmt: skip

    mine, theirs = fitted(True), fitted(False)
    assert [row[2] for row in mine.rows] == pytest.approx([row[2] for row in theirs.rows], rel=1e-9)
    for name, value in theirs.pair.parameters.items():
        torch.testing.assert_close(mine.pair.parameters[name], value, rtol=1e-9, atol=1e-9)


class Frozen(PyroModule):
    """Parameters that are told one by one not to move."""

    def __init__(self):
        super().__init__()
        self.linear = PyroModule[nn.Linear](2, 1)

    def forward(self, x, y):
        with pyro.plate("data", len(x)):
            pyro.sample("y", dist.Normal(self.linear(x)[:, 0], 1.0), obs=y)


def test_parameters_that_are_frozen_one_by_one():
    def run(kind):
        pyro.clear_param_store()
        pyro.set_rng_seed(3)
        model = Frozen()
        model(*data())
        model.linear.bias.requires_grad_(False)
        optim = pyro.optim.AdamW({"lr": 0.05, "weight_decay": 0.3})
        svi = kind(model, lambda x, y: None, optim, loss=Trace_ELBO())
        losses = [svi.step(*data()) for _ in range(10)]
        model.linear.bias.requires_grad_(True)
        return losses + [svi.step(*data()) for _ in range(10)], model.linear.state_dict()

    theirs = run(pyro.infer.SVI)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        mine = run(functools.partial(vb.SVI, compile=True))
    assert mine[0] == pytest.approx(theirs[0], rel=1e-9)
    torch.testing.assert_close(mine[1], theirs[1])


def test_learning_without_a_guide():
    net = FrozenBase()
    pair = vb.Pair(net.model, lambda x, y: pyro.sample("z", dist.Normal(0.0, 1.0)))
    optim = functools.partial(torch.optim.SGD, lr=0.01, weight_decay=0.3)
    before = {name: value.detach().clone() for name, value in net.state_dict().items()}
    found = vb.monte_carlo_em(pair, data(), steps=5, updates=2, optimizer=optim, progress=False)
    for name, value in before.items():
        assert torch.equal(value, found.parameters[f"net$$${name}"]) == name.startswith("base")
