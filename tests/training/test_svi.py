"""vb.SVI in place of pyro.infer.SVI: the same numbers after the same seed, the same store, clear answers to what can't be."""

from __future__ import annotations

import functools
import signal
import sys
import warnings
from collections import Counter

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro.infer import Trace_ELBO, TraceGraph_ELBO, TraceMeanField_ELBO
from pyro.infer.autoguide import AutoNormal
from torch import nn

import vbayes as vb
from tests.models import binary

Y = torch.tensor([28.0, 8, -3, 7, -1, 1, 18, 12])
SIGMA = torch.tensor([15.0, 10, 16, 11, 9, 11, 10, 18])


@pytest.fixture(autouse=True)
def scratch(double):
    """A param store and generators of the test's own."""
    with pyro.get_param_store().scope(), vb.seeded(0):
        yield


def schools(y, sigma):
    mu = pyro.sample("mu", dist.Normal(0.0, 5.0))
    tau = pyro.sample("tau", dist.HalfCauchy(5.0))
    with pyro.plate("data", len(y)):
        theta = pyro.sample("theta", dist.Normal(mu, tau))
        pyro.sample("y", dist.Normal(theta, sigma), obs=y)


def trained(kind, steps, optim, elbo=None, args=(), model=schools, guide=None, **options):
    """Losses and parameters after some steps from one seed, the SVI, and its optimiser's state."""
    pyro.clear_param_store()
    pyro.set_rng_seed(3)
    guide = guide() if guide else AutoNormal(model)
    svi = kind(model, guide, optim(), loss=elbo or Trace_ELBO(), **options)
    losses = [svi.step(*(args or (Y.double(), SIGMA.double()))) for _ in range(steps)]
    state = {k: v.detach().clone() for k, v in pyro.get_param_store().items()}
    return losses, state, svi, svi.optim.get_state()


def same(a, b):
    assert a[0] == pytest.approx(b[0], rel=1e-9)
    assert a[1].keys() == b[1].keys()
    for name, value in a[1].items():
        torch.testing.assert_close(value, b[1][name], rtol=1e-9, atol=1e-9)


vbayes = functools.partial(vb.SVI, compile=True)
OPTIMISERS = {
    "Adam": lambda: pyro.optim.Adam({"lr": 0.05}),
    "ClippedAdam": lambda: pyro.optim.ClippedAdam({"lr": 0.05, "lrd": 0.98, "clip_norm": 2.0}),
    "SGD": lambda: pyro.optim.SGD({"lr": 1e-3, "momentum": 0.9}),
    "Adagrad": lambda: pyro.optim.Adagrad({"lr": 0.1}),
    "each its own": lambda: pyro.optim.Adam(lambda name: {"lr": 0.1 if "locs" in name else 0.01}),
    "no pure form": lambda: pyro.optim.NAdam({"lr": 0.05}),
    "clipped": lambda: pyro.optim.PyroOptim(torch.optim.Adam, {"lr": 0.05}, {"clip_norm": 1.0}),
    "schedule": lambda: pyro.optim.ExponentialLR(
        {"optimizer": torch.optim.Adam, "optim_args": {"lr": 0.1}, "gamma": 0.9}
    ),
}


@pytest.mark.parametrize("case", OPTIMISERS)
def test_the_numbers_of_pyro(case):
    theirs = trained(pyro.infer.SVI, 30, OPTIMISERS[case])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        mine = trained(vbayes, 30, OPTIMISERS[case])
    same(mine, theirs)
    assert all(staged is not None for staged in mine[2]._staged.values()) and len(mine[2]._staged) == 1
    if case != "schedule":
        for name, state in theirs[3].items():
            for key, value in state["state"][0].items():
                torch.testing.assert_close(torch.as_tensor(mine[3][name]["state"][0][key]), torch.as_tensor(value))
            assert mine[3][name]["param_groups"][0]["lr"] == pytest.approx(state["param_groups"][0]["lr"], rel=1e-12)


@pytest.mark.parametrize("elbo", [TraceGraph_ELBO, TraceMeanField_ELBO, vb.STL], ids=lambda kind: kind.__name__)
def test_any_elbo(elbo):
    same(trained(vbayes, 20, OPTIMISERS["Adam"], elbo()), trained(pyro.infer.SVI, 20, OPTIMISERS["Adam"], elbo()))


class Network(nn.Module):
    """With running statistics, and dropout in the guide."""

    def __init__(self):
        super().__init__()
        self.decoder = nn.Sequential(nn.Linear(2, 6, bias=False), nn.BatchNorm1d(6))  # which takes a bias away
        self.encoder = nn.Linear(6, 4)

    def model(self, x, scale=1.0):
        pyro.module("decoder", self.decoder)
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", dist.Normal(x.new_zeros(2), scale).to_event(1))
            pyro.sample("x", dist.Bernoulli(logits=self.decoder(z)).to_event(1), obs=x)

    def guide(self, x, scale=1.0):
        pyro.module("encoder", self.encoder)
        loc, log_scale = self.encoder(x).chunk(2, -1)
        with pyro.plate("data", len(x)):
            pyro.sample("z", dist.Normal(loc, log_scale.exp()).to_event(1))


@pytest.mark.slow
def test_minibatches_of_changing_shape_and_buffers():
    x = binary(50).double()

    def run(kind):
        pyro.clear_param_store()
        pyro.set_rng_seed(1)
        network = Network()
        svi = kind(network.model, network.guide, pyro.optim.Adam({"lr": 0.01}), loss=Trace_ELBO())
        losses = [svi.step(batch, scale=s) for _ in range(4) for batch in x.split(20) for s in (1.0, 2.0)]
        return losses, network.state_dict(), svi

    theirs, mine = run(pyro.infer.SVI), run(vbayes)
    same(mine[:2], theirs[:2])
    assert int(mine[1]["decoder.1.num_batches_tracked"]) == 24
    assert len(mine[2]._staged) == 4  # two shapes, two values of a number


def test_evaluate_loss():
    _, _, theirs, _ = trained(pyro.infer.SVI, 5, OPTIMISERS["Adam"])
    pyro.set_rng_seed(9)
    right = [theirs.evaluate_loss(Y.double(), SIGMA.double()) for _ in range(3)]
    _, before, mine, _ = trained(vbayes, 5, OPTIMISERS["Adam"])
    pyro.set_rng_seed(9)
    assert [mine.evaluate_loss(Y.double(), SIGMA.double()) for _ in range(3)] == pytest.approx(right, rel=1e-9)
    assert all(torch.equal(value, pyro.get_param_store()[name]) for name, value in before.items())


def test_run_takes_many_steps_at_once():
    svi = vb.SVI(schools, AutoNormal(schools), functools.partial(torch.optim.Adam, lr=0.02), loss=Trace_ELBO())
    losses = svi.run(Y.double(), SIGMA.double(), num_steps=3000, progress=False)
    assert losses.shape == (3000,) and losses[-500:].mean() < 36 < losses[:5].mean()
    assert int(next(iter(svi.optim.optim_objs.values())).state_dict()["state"][0]["step"]) == 3000
    assert len(svi.run(Y.double(), SIGMA.double(), num_steps=0, progress=False)) == 0
    for wrong in (-1, 2.5):
        with pytest.raises(vb.errors.BadInput, match="Wanted: an integer of at least 0"):
            svi.run(Y.double(), SIGMA.double(), num_steps=wrong)


def test_ctrl_c_ends_a_run_at_an_interval(monkeypatch):
    svi = vb.SVI(schools, AutoNormal(schools), pyro.optim.Adam({"lr": 0.01}), loss=Trace_ELBO(), compile=True)
    svi.step(Y.double(), SIGMA.double())
    svi.step(Y.double(), SIGMA.double())
    (staged,) = svi._staged.values()
    steps = staged.steps

    def pressing(call, count, left):
        signal.raise_signal(signal.SIGINT)
        return steps(call, count, left)

    monkeypatch.setattr(staged, "steps", pressing)
    losses = svi.run(Y.double(), SIGMA.double(), num_steps=10**6, progress=False)
    assert 0 < len(losses) < 10**6
    assert int(staged._state.steps) == 2 + len(losses)


def test_torch_optimisers():
    same(
        trained(vbayes, 10, lambda: functools.partial(torch.optim.Adam, lr=0.05)),
        trained(pyro.infer.SVI, 10, OPTIMISERS["Adam"]),
    )
    network = Network()
    optimiser = torch.optim.Adam(network.parameters(), lr=0.01)
    svi = vb.SVI(network.model, network.guide, optimiser, loss=Trace_ELBO(), compile=True)
    losses = [svi.step(binary(20).double()) for _ in range(30)]
    assert sum(losses[-5:]) < sum(losses[:5]) and optimiser.state[network.encoder.weight]["step"] == 30
    svi = vb.SVI(schools, AutoNormal(schools), optimiser, loss=Trace_ELBO())
    with pytest.raises(vb.errors.BadInput, match="was not given the parameters 'AutoNormal.locs.mu'"):
        svi.step(Y.double(), SIGMA.double())
    with pytest.raises(vb.errors.BadInput, match="is not an optimiser"):
        vb.SVI(schools, AutoNormal(schools), "adam", loss=Trace_ELBO())


def test_a_cleared_store_starts_anew():
    _, _, svi, _ = trained(vbayes, 5, OPTIMISERS["Adam"])
    pyro.clear_param_store()
    svi.guide = AutoNormal(schools)
    for _ in range(5):
        svi.step(Y.double(), SIGMA.double())
    assert len(pyro.get_param_store()) == 6


@pytest.mark.slow
def test_a_learning_rate_set_by_hand_counts():
    def run(kind):
        _, _, svi, _ = trained(kind, 5, OPTIMISERS["Adam"])
        for optimiser in svi.optim.optim_objs.values():
            optimiser.param_groups[0]["lr"] = 0.5
        losses = [svi.step(Y.double(), SIGMA.double()) for _ in range(5)]
        return losses, {k: v.detach().clone() for k, v in pyro.get_param_store().items()}

    same(run(vbayes), run(pyro.infer.SVI))


@pytest.mark.parametrize("change", ["a rate each step", "weight decay", "state"])
def test_an_optimiser_that_is_changed_by_hand(change):
    def run(kind):
        _, _, svi, _ = trained(kind, 5, OPTIMISERS["Adam"])
        losses = []
        for i in range(8):
            for optimiser in svi.optim.optim_objs.values():
                if change == "a rate each step":
                    optimiser.param_groups[0]["lr"] = 0.1 / (i + 1)
                elif change == "weight decay":
                    optimiser.param_groups[0]["weight_decay"] = 0.3
                elif i == 3:
                    optimiser.load_state_dict(optimiser.state_dict())
            losses.append(svi.step(Y.double(), SIGMA.double()))
        return losses, {k: v.detach().clone() for k, v in pyro.get_param_store().items()}

    same(run(vbayes), run(pyro.infer.SVI))


def test_handlers_around_a_step():
    def run(kind):
        _, _, svi, _ = trained(kind, 4, OPTIMISERS["Adam"])
        losses = []
        for scale in (1.0, 2.0, 3.0):
            with pyro.poutine.scale(scale=scale):
                losses.append(svi.step(Y.double(), SIGMA.double()))
        return losses, {k: v.detach().clone() for k, v in pyro.get_param_store().items()}

    same(run(vbayes), run(pyro.infer.SVI))


@pytest.mark.filterwarnings("ignore:.* was not registered in the param store:UserWarning")
def test_modules_that_are_switched():
    x = binary(20).double()

    def run(kind):
        pyro.clear_param_store()
        pyro.set_rng_seed(1)
        network = Network()
        svi = kind(network.model, network.guide, pyro.optim.SGD({"lr": 0.001}), loss=Trace_ELBO())
        losses = [svi.step(x) for _ in range(4)]
        network.decoder.eval()
        losses += [svi.step(x) for _ in range(4)]
        network.decoder.train()
        network.encoder.requires_grad_(False)
        before = network.encoder.weight.clone()
        losses += [svi.step(x) for _ in range(4)]
        assert torch.equal(before, network.encoder.weight)
        return losses, network.state_dict()

    same(run(vbayes), run(pyro.infer.SVI))


def test_calls_that_ask_for_different_parameters():
    def model(y, twice):
        a = pyro.param("a", lambda: torch.tensor(0.5))
        b = pyro.param("b", lambda: torch.tensor(-0.5)) if twice else 0.0
        with pyro.plate("data", len(y)):
            pyro.sample("y", dist.Normal(a + b, 1.0), obs=y)

    def run(kind):
        pyro.clear_param_store()
        svi = kind(model, lambda y, twice: None, pyro.optim.Adam({"lr": 0.1}), loss=Trace_ELBO())
        losses = [svi.step(Y.double(), twice) for _ in range(6) for twice in (True, True, False)]
        return losses, {k: v.detach().clone() for k, v in pyro.get_param_store().items()}

    same(run(vbayes), run(pyro.infer.SVI))


def test_what_cannot_be_captured_goes_on_by_pyro():
    def model(y, sigma):
        mu = pyro.sample("mu", dist.Normal(0.0, 5.0))
        scale = 1.0 if mu > 0 else 2.0
        with pyro.plate("data", len(y)):
            pyro.sample("y", dist.Normal(mu, sigma * scale), obs=y)

    theirs = trained(pyro.infer.SVI, 8, OPTIMISERS["Adam"], model=model)
    with pytest.warns(UserWarning, match=r"can't be captured \(line \d+ of test_svi.py: `scale = 1.0 if") as caught:
        mine = trained(vbayes, 8, OPTIMISERS["Adam"], model=model)
    assert len(caught) == 1
    same(mine, theirs)


def test_a_model_that_changes_is_noticed():
    late = False

    def model(y, sigma):
        mu = pyro.sample("mu", dist.Normal(0.0, 0.5 if late else 5.0))
        if late:
            pyro.sample("late", dist.Normal(mu, 1.0), obs=torch.tensor(2.0))
        with pyro.plate("data", len(y)):
            pyro.sample("y", dist.Normal(mu, sigma), obs=y)

    def guide(y, sigma):
        loc = pyro.param("loc", lambda: torch.tensor(0.0))
        pyro.sample("mu", dist.Normal(loc, 0.1))

    svi = vb.SVI(model, guide, pyro.optim.Adam({"lr": 0.05}), loss=Trace_ELBO(), compile=True)
    for step in range(600):
        late = step >= 40
        svi.step(Y.double(), SIGMA.double())
    # Of the model as it is now: precisions 1/σ², 4 of the prior, 1 of what came late.
    precision = (SIGMA**-2).sum() + 4 + 1
    assert pyro.param("loc").item() == pytest.approx(float(((Y / SIGMA**2).sum() + 2) / precision), abs=0.1)


def test_arguments_that_always_differ_are_told_about():
    def model(y, weight):
        mu = pyro.sample("mu", dist.Normal(0.0, 5.0 * weight))
        with pyro.plate("data", len(y)):
            pyro.sample("y", dist.Normal(mu, 10.0), obs=y)

    svi = vb.SVI(model, AutoNormal(model), pyro.optim.Adam({"lr": 0.01}), loss=Trace_ELBO())
    with pytest.warns(UserWarning, match="called with 20 kinds of arguments") as caught:
        for i in range(30):
            svi.step(Y.double(), 1 + i / 10)
    assert len(caught) == 1


def test_compiling_waits_until_it_pays():
    _, _, svi, _ = trained(vb.SVI, 100, OPTIMISERS["Adam"])
    assert not svi._staged
    svi.step(Y.double(), SIGMA.double())
    assert svi._staged
    assert not trained(functools.partial(vb.SVI, compile=False), 101, OPTIMISERS["Adam"])[2]._staged


def test_a_compiled_step_is_few_calls_of_python():
    """They are most of its time: some fifty microseconds beside one in the program. Counted, not timed."""
    svi, calls = trained(vbayes, 3, OPTIMISERS["Adam"])[2], list[str]()
    args = (Y.double(), SIGMA.double())
    sys.setprofile(lambda frame, event, _: calls.append(frame.f_code.co_qualname) if event == "call" else None)
    try:
        svi.step(*args)
    finally:
        sys.setprofile(None)
    assert len(calls) < 280, sorted(Counter(calls).items(), key=lambda each: -each[1])[:8]


def test_a_loss_that_is_not_finite_is_warned_of_and_ends_a_run():
    def model(x):
        w = pyro.param("w", lambda: torch.tensor(1.0))
        z = pyro.sample("z", dist.Normal(0.0, 1.0))
        pyro.sample("x", dist.Normal(z, torch.sqrt(w)), obs=x)

    def guide(x):
        pyro.sample("z", dist.Normal(0.0, 1.0))

    options = {"loss": Trace_ELBO(), "compile": True}
    svi = vb.SVI(model, guide, pyro.optim.SGD({"lr": 3.0}), **options)
    with pytest.raises(vb.errors.NonFinite, match="not finite at step"), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        svi.run(torch.tensor(0.01), num_steps=500, progress=False)
    assert torch.isfinite(pyro.param("w"))
    with torch.no_grad():
        pyro.param("w").fill_(-1.0)
    with pytest.warns(UserWarning, match="Encountered NaN: loss"):
        svi.step(torch.tensor(0.01))


def test_a_loss_of_ones_own_is_pyros_business():
    def loss(model, guide, *args):
        return Trace_ELBO().differentiable_loss(model, guide, *args)

    svi = vb.SVI(schools, AutoNormal(schools), pyro.optim.Adam({"lr": 0.01}), loss=loss, compile=True)
    assert all(svi.step(Y.double(), SIGMA.double()) > 0 for _ in range(3)) and not svi._staged
