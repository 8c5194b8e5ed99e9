"""A pair owns its parameters, whatever style they are written in; the minibatch scale is applied in one place."""

from __future__ import annotations

import functools

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro.infer.autoguide import AutoDiagonalNormal, AutoIAFNormal, AutoMultivariateNormal, AutoNormal
from pyro.nn import PyroModule, PyroParam
from torch import nn

import vbayes as vb
from tests.models import binary, small_vae
from vbayes.pair.modules import reachable_modules
from vbayes.staging import eager
from vbayes.validation import validation

DATA = torch.tensor([0.3, -1.2, 0.8, 2.0, 1.1, -0.4])


def model(x):
    with pyro.plate("data", len(x)):
        z = pyro.sample("z", dist.Normal(x.new_zeros(()), 1.0))
        pyro.sample("x", dist.Normal(z, 1.0), obs=x)


def global_model(x):
    m = pyro.sample("m", dist.Normal(x.new_zeros(()), 1.0))
    s = pyro.sample("s", dist.LogNormal(x.new_zeros(()), 1.0))
    with pyro.plate("data", len(x)):
        pyro.sample("x", dist.Normal(m, s), obs=x)


def by_functions():
    def guide(x):
        loc = pyro.param("loc", torch.tensor(0.1))
        scale = pyro.param("scale", torch.tensor(0.9), constraint=dist.constraints.positive)
        with pyro.plate("data", len(x)):
            pyro.sample("z", dist.Normal(loc * x, scale))

    return vb.Pair(model, guide)


class Net(nn.Module):
    """In the style of Pyro's VAE tutorial: methods that register their parts."""

    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(1, 2)
        self.norm = nn.BatchNorm1d(1, affine=False)

    def model(self, x):
        model(x)

    def guide(self, x):
        pyro.module("linear", self.linear)
        out = self.linear(self.norm(x[:, None]))
        with pyro.plate("data", len(x)):
            pyro.sample("z", dist.Normal(out[:, 0], out[:, 1].exp()))


def by_methods():
    net = Net()
    return vb.Pair(net.model, net.guide)


class Guide(PyroModule):
    def __init__(self):
        super().__init__()
        self.linear = PyroModule[nn.Linear](1, 1)
        self.scale = PyroParam(torch.tensor(0.7), dist.constraints.positive)

    def forward(self, x):
        loc = self.linear(x[:, None]).squeeze(-1)
        with pyro.plate("data", len(x)):
            pyro.sample("z", dist.Normal(loc, self.scale))


def by_pyro_module():
    return vb.Pair(model, Guide())


class Tied(PyroModule):
    """One weight under two names."""

    def __init__(self):
        super().__init__()
        self.first = PyroModule[nn.Linear](1, 1)
        self.second = PyroModule[nn.Linear](1, 1)
        self.second.weight = self.first.weight

    def forward(self, x):
        loc = self.second(torch.tanh(self.first(x[:, None]))).squeeze(-1)
        with pyro.plate("data", len(x)):
            pyro.sample("z", dist.Normal(loc, 1.0))


STYLES = {
    "functions": by_functions,
    "module methods": by_methods,
    "PyroModule": by_pyro_module,
    "tied weights": lambda: vb.Pair(model, Tied()),
    "AutoIAFNormal": lambda: vb.Pair(global_model, AutoIAFNormal(global_model)),
    "AutoNormal": lambda: vb.Pair(global_model, AutoNormal(global_model)),
    "AutoDiagonalNormal": lambda: vb.Pair(global_model, AutoDiagonalNormal(global_model)),
    "AutoMultivariateNormal": lambda: vb.Pair(global_model, AutoMultivariateNormal(global_model)),
}


def fit(pair, **options):
    return vb.fit(pair, DATA, steps=20, learning_rate=0.05, progress=False, **options)


@pytest.mark.parametrize("style", STYLES)
def test_two_fits_share_nothing(style):
    with vb.seeded(0):
        pair = STYLES[style]()
    first = fit(pair)
    second = fit(pair)
    other_seed = fit(pair, seed=1)
    assert len(first.pair.parameters) >= 2
    for name, value in first.pair.parameters.items():
        assert torch.equal(value, second.pair.parameters[name]), name
    assert first.history.elbo.tolist() == second.history.elbo.tolist() != other_seed.history.elbo.tolist()
    assert any(not torch.equal(v, other_seed.pair.parameters[k]) for k, v in first.pair.parameters.items())
    assert first.history.elbo.tail(5).mean() > first.history.elbo.head(5).mean() - 1.0


@pytest.mark.parametrize("style", STYLES)
def test_the_callers_modules_and_store_stay(style):
    with vb.seeded(0):
        pair = STYLES[style]()
    modules = reachable_modules(pair.model, pair.guide)
    before = [{k: v.clone() for k, v in m.state_dict().items()} for m in modules]
    mine = torch.tensor(5.0)
    with pyro.get_param_store().scope():
        pyro.param("loc", mine)
        fit(pair)
        assert torch.equal(pyro.param("loc"), mine)
        assert list(pyro.get_param_store()) == ["loc"]
    for module, state in zip(modules, before, strict=True):
        for name, value in state.items():
            assert torch.equal(module.state_dict()[name], value), name


@pytest.mark.parametrize("style", STYLES)
def test_interleaved_fits_equal_the_two_alone(style):
    with vb.seeded(0):
        pair = STYLES[style]()
    alone = fit(pair, seed=3), fit(pair, seed=4)
    runs = [vb.fit(pair, DATA, steps=0, learning_rate=0.05, seed=seed, progress=False) for seed in (3, 4)]
    for _ in range(5):
        runs = [run.resume(steps=4, progress=False) for run in runs]
    for run, reference in zip(runs, alone, strict=True):
        assert run.history.elbo.tolist() == reference.history.elbo.tolist()
        for name, value in reference.pair.parameters.items():
            assert torch.equal(run.pair.parameters[name], value), name


@pytest.mark.parametrize("size", [4, 6])
@pytest.mark.parametrize("estimator", ["trace", "analytic_kl", "pathwise", "stl", "score", "rloo"])
@pytest.mark.usefixtures("double")
def test_mean_over_minibatches_is_the_full_data_value(estimator, size):
    """Each datum keeps its own draws in whichever batch it is."""
    data, pair, elbo = vb.Dataset({"x": binary(12).double()}), small_vae(), vb.ESTIMATORS[estimator]()
    pair.initialise(data.batch(pair.model))
    with vb.seeded(0):
        noise = torch.randn(elbo.num_particles, 12, 2)

    def run(index):
        batch = data.batch(pair.model, index)
        mine = noise if index is None else noise[:, index]
        with pair.scope(), validation(False):
            gradients, value, _ = eager(pair, elbo, batch.total)(
                pair.parameters, pair.buffers, (mine.reshape(-1), noise), batch.args
            )
        return {**gradients, "value": value}

    full, parts = run(None), [run(index) for index in data.epoch(size, shuffle=False)]
    assert len(parts) == 12 // size
    for name, expected in full.items():
        torch.testing.assert_close(sum(part[name] for part in parts) / len(parts), expected, rtol=1e-12, atol=1e-12)
    assert abs(parts[0]["value"] - parts[1]["value"]) > 1e-3  # the batches do differ


@pytest.mark.usefixtures("double")
def test_global_latents_are_not_scaled():
    """Only the sites of the plate "data" are: mean over minibatches of log p(m, x) is that of the full data."""
    x = DATA.double()

    def guide(x):
        pyro.sample("m", dist.Delta(x.new_tensor(0.3)))
        pyro.sample("s", dist.Delta(x.new_tensor(0.9)))

    pair = vb.Pair(global_model, guide)
    data = vb.Dataset.of(x)
    with pair.scope(), vb.seeded(0):
        full = -vb.Trace().loss(*pair.scaled(6), x)
        parts = [-vb.Trace().loss(*pair.scaled(6), *b.args) for b in data.minibatches(pair.model, 2)]
    assert sum(parts) / 3 == pytest.approx(full, rel=1e-12)


@pytest.mark.usefixtures("double")
def test_a_plate_that_scales_itself_is_left_alone():
    x = DATA.double()

    def subsampling(x):
        with pyro.plate("data", 6, subsample=torch.arange(len(x))):
            pyro.sample("x", dist.Normal(0.0, 1.0), obs=x)

    pair = vb.Pair(subsampling, lambda x: None)
    half = x[:3]
    with pair.scope():
        value = -vb.Trace().loss(*pair.scaled(6), half)
    assert value == pytest.approx(2 * float(dist.Normal(0.0, 1.0).log_prob(half).sum()), rel=1e-12)


def test_reachable_modules():
    with vb.seeded(0):
        net, other = Net(), nn.Linear(1, 1)
    assert reachable_modules(net.model, net.guide) == [net]
    assert reachable_modules(functools.partial(lambda a, x: a, other)) == [other]
    assert reachable_modules(lambda x: other(x)) == [other]
    assert reachable_modules(len) == []


def test_copy_and_load():
    pair = by_functions().initialise(vb.Batch((DATA,)))
    twin = pair.copy().load({"loc": torch.tensor(9.0)})
    assert twin.parameters["loc"] == 9.0 and pair.parameters["loc"] == torch.tensor(0.1)
    with twin.scope():
        assert pyro.param("loc") == 9.0
        with pair.scope():
            assert pyro.param("loc") == torch.tensor(0.1)
        assert pyro.param("loc") == 9.0


def test_buffers_belong_to_the_pair():
    """Running statistics of a normalisation layer move in the fit, not in the caller's module."""
    with vb.seeded(0):
        pair = by_methods()
    (net,) = reachable_modules(pair.model, pair.guide)
    trained = fit(pair)
    assert net.norm.num_batches_tracked == 0
    with trained.pair.scope():
        assert net.norm.num_batches_tracked >= 20


def test_a_tensor_with_two_names_is_one_parameter():
    with vb.seeded(0):
        pair = STYLES["tied weights"]()
    pair.initialise(vb.Batch((DATA,)))
    assert len(pair.parameters) == 3 and len({id(leaf) for leaf in pair.leaves.values()}) == 3
    trained = fit(pair)
    assert set(trained.parameters) >= set(pair.parameters)
    with trained.pair.scope():
        net = trained.pair.guide
        assert net.first.weight is net.second.weight
        assert torch.equal(net.first.weight.data, next(iter(trained.pair.parameters.values())))


def test_the_callers_gradients_stay():
    with vb.seeded(0):
        pair = by_pyro_module()
    pair.guide.linear.weight.grad = torch.ones(1, 1)
    fit(pair)
    assert torch.equal(pair.guide.linear.weight.grad, torch.ones(1, 1))


@pytest.mark.on_cpu
def test_a_parameter_that_is_met_late_is_protected_too():
    with vb.seeded(0):
        early, late = nn.Linear(1, 1), nn.Linear(1, 1)
    calls = []

    def guide(x):
        calls.append(1)
        pyro.module("early", early)
        out = early(x[:, None])
        if len(calls) > 6:
            pyro.module("late", late)
            out = out + late(x[:, None])
        with pyro.plate("data", len(x)):
            pyro.sample("z", dist.Normal(out[:, 0], 1.0))

    before = late.weight.detach().clone()
    trained = fit(vb.Pair(model, guide))
    assert not torch.equal(trained.pair.parameters["late$$$weight"], before)
    assert torch.equal(late.weight, before)


@pytest.mark.parametrize("style", STYLES)
def test_all_of_it_moves_to_the_device(style):
    """Shown on the device that holds no numbers, which is everywhere."""
    with vb.seeded(0):
        pair = STYLES[style]()
    pair.initialise(vb.Batch((DATA,)))
    moved = pair.copy().to("meta")
    assert moved.state() and all(value.is_meta for value in moved.state().values())
    assert not any(value.is_meta for value in pair.state().values())


def test_parameters_are_made_before_they_are_moved(monkeypatch):
    """They are made where the caller's modules are; a pair without any has nothing to move."""
    moved, to = [], vb.Pair.to
    monkeypatch.setattr(vb.Pair, "to", lambda self, device: moved.append(len(self.parameters)) or to(self, device))
    with vb.seeded(0):
        pair = by_pyro_module()
    fitted = fit(pair)
    vb.compare(by_functions(), DATA, ["stl"], at={"here": by_functions()}, replicas=100, progress=False)
    assert moved == [3, 2, 2] and len(fitted.pair.parameters) == 3


@pytest.mark.parametrize("on", [True, False])
def test_the_callers_validation_stays(on):
    torch.distributions.Distribution.set_default_validate_args(on)
    try:
        fit(by_functions())
        vb.check(by_functions(), DATA, show=False)
        assert torch.distributions.Distribution._validate_args is on
    finally:
        torch.distributions.Distribution.set_default_validate_args(True)
