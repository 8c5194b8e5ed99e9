"""Programs that run in Pyro and were refused, or broke, here."""

from __future__ import annotations

import functools

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro.infer import Trace_ELBO, TraceEnum_ELBO
from pyro.infer.autoguide import AutoNormal

import vbayes as vb
from vbayes.staging.trace import draws_inside

X = torch.tensor([0.5, 1.5, -0.5, 2.0])
fitted = functools.partial(vb.fit, progress=False)


def normal(x):
    z = pyro.sample("z", dist.Normal(torch.tensor(0.0), 1.0))
    with pyro.plate("data", len(x)):
        pyro.sample("x", dist.Normal(z, 1.0), obs=x)


def pair() -> vb.Pair:
    return vb.Pair(normal, AutoNormal(normal))


@pytest.mark.parametrize(
    "loss", [Trace_ELBO(num_particles=2, vectorize_particles=True), TraceEnum_ELBO(strict_enumeration_warning=False)]
)
def test_a_loss_of_pyros_that_looks_at_the_model_first(loss):
    """It is held against Pyro at step 64, and has not looked by then: the noise recorded for its draws went into that look."""
    fit = fitted(pair(), X, loss, steps=300, compile=True)
    assert fit.steps == 300 and fit.progress.staged


@pytest.mark.parametrize("compile", [False, True])
def test_a_schedule_that_waits_for_a_plateau(compile):
    """As in `pyro.infer.SVI` with `scheduler.step(mean loss)` after each epoch, on the same draws."""

    def plateau():
        arguments = {"optimizer": torch.optim.SGD, "optim_args": {"lr": 0.05}, "factor": 0.5, "patience": 0}
        return pyro.optim.ReduceLROnPlateau(arguments)

    fit = fitted(pair(), X, Trace_ELBO(), steps=12, batch_size=2, optimizer=plateau(), compile=compile)
    again = fitted(pair(), X, Trace_ELBO(), steps=5, batch_size=2, optimizer=plateau(), compile=compile)
    again = again.resume(steps=7, progress=False)
    assert again.history.elbo.tolist() == fit.history.elbo.tolist()
    # Torch's own scheduler over the epochs' mean losses says what the rate must be.
    by_hand = torch.optim.SGD([torch.zeros(1)], lr=0.05)
    scheduler = torch.optim.lr_scheduler.ReduceLROnPlateau(by_hand, factor=0.5, patience=0)
    for loss in -fit.history.groupby("epoch").elbo.mean():
        scheduler.step(loss)
    (rate,) = {state["scheduler"]["_last_lr"][0] for state in fit.progress.optimizer.values()}
    assert rate == scheduler.get_last_lr()[0] < 0.05


def test_an_autoguide_that_is_told_its_rows():
    """It has N parameters, of which a minibatch moves its own. Exact: z_i given x_i is N(x_i / 2, 1/2)."""
    x = torch.linspace(-2.0, 2.0, 6)

    def rowwise(x, rows):
        with pyro.plate("data", 6, subsample=rows):
            z = pyro.sample("z", dist.Normal(torch.tensor(0.0), 1.0))
            pyro.sample("x", dist.Normal(z, 1.0), obs=x)

    def made(**options):
        return vb.Pair(rowwise, AutoNormal(rowwise, init_scale=0.5**0.5, **options))

    told = made(create_plates=lambda x, rows: pyro.plate("data", 6, subsample=rows))
    one = fitted(told, {"x": x}, "stl", steps=1, batch_size=2, learning_rate=0.03, compile=False)
    before = (
        told.copy().initialise(vb.Dataset({"x": x}).batch(rowwise, torch.arange(2))).parameters["AutoNormal.locs.z"]
    )
    assert before.shape == (6,) and int((one.parameters["AutoNormal.locs.z"] != before).sum()) == 2
    fit = one.resume(steps=400, progress=False)
    torch.testing.assert_close(fit.parameters["AutoNormal.locs.z"], x / 2, atol=0.15, rtol=0)
    for untold in (made(), made(create_plates=lambda x, rows: pyro.plate("data", 6, subsample_size=2))):
        with pytest.raises(
            vb.errors.BadPair, match=r"create_plates=lambda \.\.\., rows: pyro.plate\('data', 6, subsample=rows\)"
        ):
            fitted(untold, {"x": x}, steps=1, batch_size=2)


@pytest.mark.parametrize(
    "ask",
    [
        lambda pair: fitted(pair, X),
        lambda pair: fitted(pair),
        lambda pair: fitted(pair, {"x": X}),
        lambda pair: vb.check(pair, X),
        lambda pair: vb.compare(pair, X, progress=False),
        lambda pair: vb.posterior(pair, X),
        lambda pair: vb.tabulate(pair, X),
    ],
    ids=["fit", "no data", "named", "check", "compare", "posterior", "tabulate"],
)
def test_a_model_without_arguments_is_one_answer(ask):
    def closed():
        pyro.sample("x", dist.Normal(pyro.sample("z", dist.Normal(0.0, 1.0)), 1.0), obs=X[0])

    pair = vb.Pair(closed, AutoNormal(closed))
    with pytest.raises(
        vb.errors.BadPair, match=r"'closed' takes no arguments.*Write it as `def closed\(x\): \.\.\. obs=x`"
    ):
        ask(pair)
    assert vb.check(pair, show=False).sites


def test_a_laplace_without_dimensions_is_captured():
    """Torch draws it by `loc.new(shape)`, which made nothing of the shape () in a capture."""

    def model(x):
        z = pyro.sample("z", dist.Laplace(torch.tensor(0.0), 1.0))
        with pyro.plate("data", len(x)):
            pyro.sample("x", dist.Normal(z, 1.0), obs=x)

    def guide(x):
        scale = pyro.param("scale", torch.tensor(0.5), constraint=dist.constraints.positive)
        pyro.sample("z", dist.Laplace(pyro.param("loc", torch.tensor(0.1)), scale))

    fit = fitted(vb.Pair(model, guide), X, "trace", steps=20, compile=True)
    assert fit.progress.staged and fit.parameters["loc"].shape == ()


@pytest.mark.parametrize(("dropout", "static"), [(0.0, True), (0.5, False)])
def test_attention_is_random_by_its_dropout_alone(dropout, static):
    """Torch tags it as random whatever its dropout."""
    attend = torch.ops.aten._scaled_dot_product_flash_attention.default
    graph = torch.fx.Graph()
    x = graph.placeholder("x")
    graph.output(graph.call_function(attend, (x, x, x, dropout)))
    assert draws_inside(torch.fx.GraphModule(torch.nn.Module(), graph)) is not static
