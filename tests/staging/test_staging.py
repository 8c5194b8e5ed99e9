"""Capture: noise as an input, the same numbers, and an honest answer where it can't work."""

from __future__ import annotations

import random

import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro.infer.autoguide import AutoNormal

import vbayes as vb
from tests.models import X, binary, small_vae
from vbayes.laboratory.replicas import Replicas
from vbayes.staging import Recorder, Replicated, draw_noise, replicate, stage
from vbayes.validation import validation

DRAWS = {
    "normal_": (lambda: torch.empty(3).normal_(), (3, 0)),
    "normal_ with mean and std": (lambda: torch.empty(3).normal_(2.0, std=0.5), (3, 0)),
    "torch.normal": (lambda: torch.normal(torch.zeros(2), torch.ones(2)), (2, 0)),
    "randn": (lambda: torch.randn(2, 2), (4, 0)),
    "randn of a size": (lambda: torch.randn(torch.Size([2, 2])), (4, 0)),
    "randn_like": (lambda: torch.randn_like(torch.ones(4)), (4, 0)),
    "rand": (lambda: torch.rand((5,)), (0, 5)),
    "uniform_": (lambda: torch.empty(3).uniform_(-1.0, 1.0), (0, 3)),
    "exponential_": (lambda: torch.empty(3).exponential_(2.0), (0, 3)),
    "randperm": (lambda: torch.randperm(7), (0, 7)),
    "Normal": (lambda: dist.Normal(torch.zeros(2), 1.0).rsample(), (2, 0)),
    "Laplace": (lambda: dist.Laplace(torch.zeros(2), 1.0).rsample(), (0, 2)),
    "Exponential": (lambda: dist.Exponential(torch.ones(2)).rsample(), (0, 2)),
    "MultivariateNormal": (lambda: dist.MultivariateNormal(torch.zeros(2), torch.eye(2)).rsample(), (2, 0)),
}


@pytest.mark.parametrize("case", DRAWS)
def test_noise_is_taken_from_outside(case):
    run, sizes = DRAWS[case]
    with vb.seeded(0):
        with Recorder() as calls:
            fresh = run()
        assert calls.sizes == sizes
        noise = tuple(n[0] for n in draw_noise(calls.sizes, 1, torch.zeros(())))
        with Recorder(noise):
            first = run()
        with Recorder(noise):
            again = run()
    assert torch.equal(first, again) and not torch.equal(first, fresh) and first.shape == fresh.shape


def test_draws_have_the_right_distribution():
    with vb.seeded(0), Recorder():
        normal = torch.empty(100_000).normal_(2.0, 0.5)
        uniform = torch.empty(100_000).uniform_(-1.0, 3.0)
        exponential = torch.empty(100_000).exponential_(2.0)
    for drawn, mean, sd in ((normal, 2.0, 0.5), (uniform, 1.0, 4 / 12**0.5), (exponential, 0.5, 0.5)):
        assert abs(drawn.mean() - mean) < 4 * sd / 100_000**0.5
        assert float(drawn.std()) == pytest.approx(sd, rel=0.02)


def test_parameters_and_batch_are_inputs():
    """One capture serves other parameters and other data."""
    pair, batch = small_vae(), vb.Batch((binary(),))
    program = stage(pair.initialise(batch), vb.Pathwise(), batch)
    with vb.seeded(0):
        noise = draw_noise(program.sizes, 1, torch.zeros(()))
    moved = pair.copy().load({k: v + 0.1 for k, v in pair.parameters.items()})
    other = 1 - batch.args[0]
    staged = replicate(program, moved.parameters, noise, (other,))[1][0]
    with moved.scope(), Recorder(tuple(n[0] for n in noise)), validation(False):
        eager = -vb.Pathwise().loss(moved.model, moved.guide, other)
    assert float(staged) == pytest.approx(eager, rel=1e-5)


def test_the_graph_has_no_pyro_left():
    pair, batch = small_vae(), vb.Batch((binary(),))
    program = stage(pair.initialise(batch), vb.AnalyticKL(), batch)
    assert program.static
    targets = {str(node.target) for node in program.graph.graph.nodes if node.op == "call_function"}
    assert targets and all(target.startswith(("aten.", "<built-in")) for target in targets), targets
    assert torch.distributions.Distribution._validate_args
    with pytest.raises(ValueError):
        torch.distributions.Normal(0.0, -1.0)


def test_pyro_is_as_it_was_after_a_capture():
    pair, batch = small_vae(), vb.Batch((binary(),))
    stage(pair.initialise(batch), vb.Trace(), batch)
    assert pyro.infer.util.torch is torch
    for module in (pyro.infer.trace_elbo, pyro.infer.tracegraph_elbo, vb.estimators.base):
        assert module.warn_if_nan is pyro.util.warn_if_nan
    assert torch.is_grad_enabled() and torch.get_default_dtype() == torch.float32


def branching() -> vb.Pair:
    """Its model looks at a drawn value and decides."""

    def model(x):
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", dist.Normal(x.new_zeros(()), 1.0))
            scale = 1.0 if z.sum() > 0 else 2.0
            pyro.sample("x", dist.Normal(z, scale), obs=x)

    def guide(x):
        loc = pyro.param("loc", lambda: torch.zeros(2))
        with pyro.plate("data", len(x)):
            pyro.sample("z", dist.Normal(loc, 1.0))

    return vb.Pair(model, guide, name="branching")


def test_what_cannot_be_captured_is_said_and_still_measured():
    pair, x = branching(), X.float()
    with pytest.raises(vb.errors.CaptureFailed, match="'branching' can't be captured .line .* of .*: `scale = 1.0 if"):
        stage(pair.initialise(vb.Batch((x,))), vb.Pathwise(), vb.Batch((x,)))
    assert torch.distributions.Distribution._validate_args
    with pytest.warns(UserWarning, match="one by one"):
        result = vb.compare(pair, x, ["pathwise", "score"], at={"here": pair}, replicas=200, progress=False)
    variance = result.to_dataframe().query("group == 'all'").set_index("estimator").variance
    assert 0 < variance["pathwise"] < variance["score"]


def test_draws_that_stay_in_the_graph_differ_between_replicas():
    """A Poisson's sampler is no base noise: `vmap` draws it anew for each replica, the same for the same seed."""

    def model(x):
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", dist.Poisson(x.new_full((), 9e5)))
            pyro.sample("x", dist.Normal(z, 1.0), obs=x)

    def guide(x):
        rate = pyro.param("rate", lambda: torch.full((2,), 1e6), constraint=dist.constraints.positive)
        with pyro.plate("data", len(x)):
            pyro.sample("z", dist.Poisson(rate))

    pair, batch = vb.Pair(model, guide), vb.Batch((X.float(),))
    replicas = Replicas(pair.initialise(batch), vb.Score(), batch)
    assert replicas.why_slow is None and not replicas.program.static
    noise = (torch.zeros(50, replicas.sizes[0]), torch.zeros(50, replicas.sizes[1]))
    one, two, other = (torch.cat(list(replicas.gradients(pair, noise, seed))) for seed in (0, 0, 1))
    assert torch.equal(one, two) and not torch.equal(one, other) and len(one.unique(dim=0)) == 50


def test_a_plate_that_subsamples_is_measured():
    """Whichever way: each replica has rows of its own, and the mean is that of Pyro's estimator."""
    from tests.models import subsampled

    pair, x = subsampled(), torch.linspace(-1, 2, 12).reshape(4, 3)
    replicas = Replicas(pair.initialise(vb.Batch((x,))), vb.Pathwise(), vb.Batch((x,)))
    with vb.seeded(0):
        noise = draw_noise(replicas.sizes, 200, x)
    drawn = torch.cat(list(replicas.gradients(pair, noise, 0)))
    assert len(((drawn != 0).float() @ torch.tensor([1.0, 2.0, 4.0, 8.0])).unique()) == 6  # pairs among four rows


def test_rows_are_drawn_like_noise():
    """Whole, in an order that any other is as likely as, and beside the uniforms."""
    with vb.seeded(0), Recorder() as calls:
        torch.rand(3), torch.randperm(4), torch.randperm(6, device="cpu")
    assert calls.sizes == (0, 13) and calls.sizes.rows == ((3, 4), (7, 6))
    _, uniforms = draw_noise(calls.sizes, 4000, torch.zeros(()), torch.Generator().manual_seed(0))
    four, six = uniforms[:, 3:7].long(), uniforms[:, 7:].long()
    assert (four.sort(1).values == torch.arange(4)).all() and (six.sort(1).values == torch.arange(6)).all()
    for place in range(4):  # sd of a share of 4000: .0068
        assert ((four == place).float().mean(0) - 0.25).abs().max() < 0.034
    with Recorder((uniforms[0, :0], uniforms[0])):
        assert torch.equal(torch.rand(3), uniforms[0, :3]) and torch.equal(torch.randperm(4), four[0])


class Twice(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        return 2 * x

    @staticmethod
    def backward(ctx, gradient):
        return 2 * gradient


def guide_with(loc):
    def guide(x):
        with pyro.plate("data", len(x)):
            pyro.sample("z", dist.Normal(loc(pyro.param("loc", torch.zeros(2))), 1.0))

    return guide


def plain_model(x):
    with pyro.plate("data", len(x)):
        z = pyro.sample("z", dist.Normal(x.new_zeros(()), 1.0))
        pyro.sample("x", dist.Normal(z, 1.0), obs=x)


def filled(loc):
    drawn = torch.full((2,), 100.0)
    drawn.normal_()
    return loc + drawn


DECEIVING = {
    "a function with a gradient of its own": Twice.apply,
    "a draw into a tensor that was there": filled,
    "NumPy's generator": lambda loc: loc + float(np.random.normal()),
    "Python's generator": lambda loc: loc + random.random(),
    "a value that was read": lambda loc: loc + float(torch.randn(1).numpy()[0]),
}


@pytest.mark.parametrize("case", DECEIVING)
def test_a_graph_with_other_numbers_than_pyro_is_refused(case):
    pair, batch = vb.Pair(plain_model, guide_with(DECEIVING[case])), vb.Batch((X.float(),))
    with pytest.raises(vb.errors.CaptureFailed):
        stage(pair.initialise(batch), vb.Pathwise(), batch)
    with pytest.warns(UserWarning, match="one by one"):
        replicas = Replicas(pair, vb.Pathwise(), batch)
    drawn = torch.cat(list(replicas.gradients(pair, (torch.zeros(200, 0),) * 2, 0)))
    assert drawn.std(0).min() > 0.1


@pytest.mark.parametrize("kind", [dist.LKJ, dist.LKJCholesky])
def test_correlations_have_machine_code(kind):
    """Their lower triangles are written through masks."""

    def model(x):
        made = pyro.sample("made", kind(3, 2.0))
        name = "scale_tril" if kind is dist.LKJCholesky else "covariance_matrix"
        with pyro.plate("data", len(x)):
            pyro.sample("x", dist.MultivariateNormal(torch.zeros(3), **{name: made}), obs=x)

    x = torch.randn(20, 3, generator=torch.Generator().manual_seed(0))
    batch = vb.Batch((x,))
    pair = vb.Pair(model, AutoNormal(model)).initialise(batch)
    program = stage(pair, vb.Pathwise(), batch)
    replicated = Replicated(program, pair.parameters, batch.args, compiled=True)
    assert replicated.native is not None
    with vb.seeded(0), torch.no_grad():
        noise = draw_noise(program.sizes, 3, x)
        (ours,) = replicated(pair.parameters, noise, batch.args)
        theirs, _ = replicate(program, pair.parameters, noise, batch.args)
    theirs = torch.cat([value.reshape(3, -1) for value in theirs.values()], 1)
    torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=1e-3)


def test_noise_drawn_into_old_memory_is_the_same():
    """A block after the other, as a fit of a large guide draws them."""
    like = torch.zeros((), dtype=torch.float64)
    generators = [torch.Generator().manual_seed(3) for _ in range(2)]
    held = None
    for _ in range(3):
        fresh = draw_noise((1001, 7), 5, like, generators[0])
        again = draw_noise((1001, 7), 5, like, generators[1], held)
        assert all(torch.equal(one, other) for one, other in zip(fresh, again, strict=True))
        assert held is None or all(one is other for one, other in zip(again, held, strict=True))
        held = again
