"""Whole fits by XLA: the same numbers as by machine code and by torch, for programs that there is no C for too, and words where there is none."""

from __future__ import annotations

import os

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro.infer.autoguide import AutoNormal
from torch import nn
from torch.distributions import constraints

import vbayes as vb
from tests.models import binary, small_vae
from tests.tractable import PAIRS, batch_of, pair_of
from vbayes.staging import backends, draw_noise, replicate, stage
from vbayes.staging.replicate import Replicated
from vbayes.staging.xla import load
from vbayes.training import engine
from vbayes.training.engine import WORTH
from vbayes.training.fit_run import FitRun

jax = pytest.importorskip("jax")  # the extra `xla`, which the extra `test` brings
pytestmark = pytest.mark.on_cpu


def pictures(count=6):
    return (torch.sin(torch.arange(count * 64.0) * 3) > 0).to(torch.get_default_dtype()).view(count, 1, 8, 8)


def convolutional():
    """A VAE of convolutions."""

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.encode = nn.Sequential(
                nn.Conv2d(1, 3, 3, stride=2, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(48, 4)
            )
            self.decode = nn.Sequential(
                nn.Linear(2, 48), nn.Unflatten(1, (3, 4, 4)), nn.ReLU(), nn.ConvTranspose2d(3, 1, 4, 2, 1)
            )

        def model(self, x):
            pyro.module("net", self)
            with pyro.plate("data", len(x)):
                z = pyro.sample("z", dist.Normal(x.new_zeros(2), 1.0).to_event(1))
                pyro.sample("x", dist.Bernoulli(logits=self.decode(z)).to_event(3), obs=x)

        def guide(self, x):
            pyro.module("net", self)
            loc, log_scale = self.encode(x).chunk(2, -1)
            with pyro.plate("data", len(x)):
                pyro.sample("z", dist.Normal(loc, log_scale.exp()).to_event(1))

    with vb.seeded(1):
        net = Net()
    return vb.Pair(net.model, net.guide), vb.Dataset.of(pictures())


def spectral():
    """Eigenvalues in the density."""

    def model(x):
        z = pyro.sample("z", dist.Normal(x.new_zeros(3), 1.0).to_event(1))
        matrix = torch.outer(z, z) + torch.diag(torch.arange(1.0, 4.0))
        with pyro.plate("data", len(x)):
            pyro.sample(
                "x", dist.Normal(torch.linalg.eigvalsh(matrix)[-1] + torch.linalg.det(matrix).log(), 1.0), obs=x
            )

    return vb.Pair(model, AutoNormal(model)), vb.Dataset.of(torch.tensor([5.0, 5.5]))


def order():
    """Order statistics in the density."""

    def model(x):
        with pyro.plate("parts", 4):
            z = pyro.sample("z", dist.Normal(x.new_zeros(()), 1.0))
        with pyro.plate("data", len(x)):
            pyro.sample("x", dist.Normal(z.sort().values[-1] - z.median(), 1.0), obs=x)

    return vb.Pair(model, AutoNormal(model)), vb.Dataset.of(torch.tensor([1.0, 1.5]))


def counting():
    """Draws that are not made of normals and uniforms."""

    def model(x):
        with pyro.plate("data", len(x)):
            pyro.sample("count", dist.Poisson(x.new_full((len(x),), 3.0)))
            pyro.sample("x", dist.Normal(0.0, 1.0), obs=x)

    def guide(x):
        rate = pyro.param("rate", lambda: torch.linspace(2.0, 4.0, len(x)), constraint=constraints.positive)
        with pyro.plate("data", len(x)):
            pyro.sample("count", dist.Poisson(rate))

    return vb.Pair(model, guide), vb.Dataset.of(torch.tensor([1.0, 0.0, 3.0, 2.0]))


def fourier():
    """An operation that there is no rule for."""

    def model(x):
        z = pyro.sample("z", dist.Normal(x.new_zeros(4), 1.0).to_event(1))
        with pyro.plate("data", len(x)):
            pyro.sample("x", dist.Normal(torch.fft.rfft(z).abs().sum(), 1.0), obs=x)

    return vb.Pair(model, AutoNormal(model)), vb.Dataset.of(torch.tensor([1.0, 1.5]))


def fitted(pair, data, compile, steps=30, estimator="stl", **options):
    """The run of a fit, which says what took its steps."""
    start = vb.fit(
        pair, data, estimator, steps=0, compile=compile, seed=3, progress=False, learning_rate=0.05, **options
    )
    run = FitRun(start, staged=True)
    run.go(steps)
    return run


def same(one, other, digits):
    torch.testing.assert_close(
        torch.tensor(one.history.elbo), torch.tensor(other.history.elbo), rtol=digits, atol=digits
    )
    for name, value in other.parameters.items():
        torch.testing.assert_close(one.parameters[name], value, rtol=10 * digits, atol=10 * digits)


@pytest.mark.slow
def test_minibatches_and_resuming():
    """The last minibatch of an epoch is another size, and has another loop; float32, whose rounding thirty steps carry along."""
    options = {"batch_size": 5, "estimator": "pathwise"}
    native, xla = (fitted(small_vae(), binary(12), each, **options) for each in ("native", "xla"))
    same(xla.fit, native.fit, 2e-4)
    assert (native.engine, xla.engine) == ("machine code", "XLA")
    whole = fitted(small_vae(), binary(12), "xla", steps=17, **options).fit.resume(steps=13)
    assert whole.history.elbo.equals(xla.fit.history.elbo) and whole.compile == "xla"
    assert all(torch.equal(v, whole.pair.parameters[k]) for k, v in xla.pair.parameters.items())


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(PAIRS))
def test_tractable_pairs(name, double):
    """In double, where only rounding is between the engines, and forty steps multiply it a little."""
    pair, batch = pair_of(name), batch_of(name)
    for estimator in ("trace", "analytic_kl"):
        fits = {}
        for backend in ("torch", "xla"):
            try:
                fits[backend] = fitted(pair, batch.args, backend, steps=40, estimator=estimator).fit
            except vb.errors.Unsuitable:
                break
        if fits:
            same(fits["xla"], fits["torch"], 1e-8)


@pytest.mark.parametrize("made", [pytest.param(convolutional, marks=pytest.mark.slow), spectral, pytest.param(order, marks=pytest.mark.slow)], ids=lambda f: f.__name__)  # fmt: skip
def test_what_there_is_no_machine_code_for(made, double):
    pair, data = made()
    torch_, auto = (fitted(pair, data, each, steps=12) for each in ("torch", True))
    same(auto.fit, torch_.fit, 1e-8)
    assert (torch_.engine, auto.engine) == ("captured program", "XLA")
    assert not jax.config.jax_enable_x64  # the user's own


@pytest.mark.slow
def test_a_short_fit_does_not_wait_for_xla(monkeypatch):
    """Its compiler takes what thousands of Pyro's steps do; the captured program gives the same numbers."""
    pair, data = spectral()
    options = {"steps": WORTH, "seed": 3, "progress": False, "compile": "auto"}
    short = vb.fit(pair, data, "stl", **options)
    monkeypatch.setattr(engine, "XLA_WORTH", WORTH)
    long = vb.fit(pair, data, "stl", **options)
    assert short.engine.startswith("interpreted: there is no machine code") and long.engine == "xla"
    same(long, short, 1e-3)


@pytest.mark.slow
def test_draws_that_are_no_noise():
    """They are drawn by a key of the seed and the step, from the distribution that Pyro draws from."""
    pair, data = counting()
    run = fitted(pair, data, True, steps=600, estimator="trace")
    assert run.engine == "XLA"
    # The guide's family has the exact posterior, the prior, in it: at the end the bound is the evidence, but for what the steps' own noise keeps it below.
    evidence = dist.Normal(0.0, 1.0).log_prob(data.first).sum()
    last = run.fit.history.elbo.tail(200)
    assert evidence - 0.3 < last.mean() < evidence + 5 * last.sem()


@pytest.mark.slow
def test_draws_that_are_no_noise_again():
    """Resuming takes them up where they were; another seed draws others."""
    pair, data = counting()
    whole = fitted(pair, data, True, steps=60, estimator="trace").fit
    again = fitted(pair, data, True, steps=20, estimator="trace").fit.resume(steps=40)
    assert whole.history.elbo.equals(again.history.elbo)
    other = vb.fit(pair, data, "trace", steps=5, compile=True, seed=4, progress=False, learning_rate=0.05)
    assert not other.history.elbo.equals(whole.history.elbo[:5])


@pytest.mark.slow
@pytest.mark.parametrize("made", [spectral, counting], ids=lambda f: f.__name__)
def test_many_gradients(made, double):
    """Those of `vmap`; where counts are drawn, by their mean over many, within five standard errors."""
    pair, data = made()
    batch = data.batch(pair.model)
    pair.initialise(batch)
    program = stage(pair, vb.Trace(), batch)
    parameters = {k: v.detach() for k, v in pair.parameters.items()}
    many = Replicated(program, parameters, batch.args, compiled=True)
    assert many.xla and not many.native
    with vb.seeded(2):
        noise = draw_noise(program.sizes, 1000, torch.zeros(()))
        found = torch.cat(list(many(parameters, noise, batch.args)))
        right, _ = replicate(program, parameters, noise, batch.args)
    flat = torch.cat([part.reshape(1000, -1) for part in right.values()], 1)
    if program.static:
        torch.testing.assert_close(found, flat, rtol=1e-8, atol=1e-8)
    else:
        error = (found.var(0) / 1000 + flat.var(0) / 1000).sqrt()
        assert ((found.mean(0) - flat.mean(0)).abs() < 5 * error).all()
        assert len(found.unique(dim=0)) > 500  # counts, some of which come again


@pytest.mark.slow
def test_svi_steps():
    """`SVI.step` of a program that there is no machine code for, against Pyro's own."""
    losses = []
    for compile in ("xla", True, False):
        pyro.clear_param_store()
        pair, data = spectral()
        with vb.seeded(5):
            svi = vb.SVI(
                pair.model, pair.guide, pyro.optim.Adam({"lr": 0.05}), pyro.infer.Trace_ELBO(), compile=compile
            )
            losses.append([svi.step(data.batch(pair.model).args[0]) for _ in range(12)])
        pyro.clear_param_store()
    assert losses[0] == losses[1] == pytest.approx(losses[2], rel=1e-4)


def test_a_step_that_is_not_finite():
    """Each engine stops at the same step, with the same parameters behind it."""

    def model(x):
        w = pyro.param("w", lambda: torch.tensor(20.0))
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", dist.Normal(x.new_zeros(()), 1.0))
            pyro.sample("x", dist.Normal(z, torch.sqrt(w)), obs=x)

    def guide(x):
        with pyro.plate("data", len(x)):
            pyro.sample("z", dist.Normal(x.new_zeros(()), 1.0))

    found = []
    for compile in ("native", "xla"):
        with pytest.raises(vb.errors.NonFinite) as caught:
            vb.fit(
                vb.Pair(model, guide),
                torch.tensor([0.1, -0.2]),
                "pathwise",
                steps=400,
                compile=compile,
                learning_rate=7.0,
                seed=0,
                progress=False,
            )
        found.append(caught.value)
    native, xla = found
    assert xla.step == native.step > 1 and xla.sites == native.sites
    same(xla.fit, native.fit, 1e-4)


def test_without_jax(monkeypatch):
    monkeypatch.setattr(load.importlib.util, "find_spec", lambda name: None)
    load._missing.cache_clear()
    try:
        with pytest.raises(
            vb.errors.BadInput, match=r"compile='xla', but jax is not installed; pip install 'vbayes\[xla\]'"
        ):
            fitted(*spectral(), "xla")
        made = backends.made_by("auto", lambda x: [torch.linalg.eigvalsh(x)], [torch.eye(2)])
        assert made[:2] == (None, None) and "eigh" in made[2] and "jax is not installed" in made[2]
    finally:
        load._missing.cache_clear()
    with pytest.raises(
        vb.errors.BadInput,
        match="compile='fortran' is not a valid choice. Wanted: 'auto', True, False, 'native', 'xla' or 'torch'",
    ):
        fitted(*spectral(), "fortran")


def test_an_operation_without_a_rule():
    """It says which, and goes on as torch interprets it."""
    backends.say_once.cache_clear()
    with pytest.warns(UserWarning, match="XLA has no rule for fft_r2c"):
        fit = fitted(*fourier(), "xla", steps=3)
    assert fit.steps == 3 and fit.engine == "captured program"
    backends.say_once.cache_clear()


def test_a_long_program_is_left_to_torch(monkeypatch):
    """Where nobody asked for XLA by name."""
    monkeypatch.setattr(backends, "LONG", 3)
    given = [torch.eye(2)]
    _, made, why = backends.made_by("auto", lambda x: [torch.linalg.eigvalsh(x) + x.sum() * 2], given)
    assert made is None and "would take a minute" in why


@pytest.mark.slow
def test_fits_side_by_side():
    """Three restarts in one program by XLA are those of torch."""
    pair, data = spectral()
    one, other = (
        vb.fit(pair, data, "stl", steps=10, restarts=3, compile=compile, seed=3, progress=False, learning_rate=0.05)
        for compile in ("xla", "torch")
    )
    for mine, theirs in zip(one.fits, other.fits, strict=True):
        same(mine, theirs, 1e-3)


def test_a_card_without_jaxs_part_for_it():
    assert "jax has no part for 'cuda'" in load.missing("cuda") or torch.version.cuda
    assert os.environ["XLA_PYTHON_CLIENT_PREALLOCATE"]  # set, unless the user has
