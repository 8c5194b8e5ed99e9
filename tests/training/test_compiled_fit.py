"""Fits whose steps are one program: Pyro's own numbers, resumed to the last bit, with clear answers to what can't be."""

from __future__ import annotations

import functools
import signal

import pyro
import pyro.distributions as dist
import pytest
import torch

import vbayes as vb
from tests.models import binary, small_vae
from tests.training.test_fit import exploding, same
from vbayes.staging import Recorder
from vbayes.staging.machine_code import say_once
from vbayes.staging.native import build
from vbayes.training.minibatches import Minibatches
from vbayes.validation import validation

compiled = functools.partial(vb.fit, progress=False, compile=True)


@pytest.fixture
def data() -> vb.Dataset:
    return vb.Dataset({"x": binary(50).to(torch.get_default_dtype())}, name="coins")


@pytest.mark.on_cpu
@pytest.mark.parametrize("batch_size", [None, 20, 10])
@pytest.mark.parametrize("estimator", ["trace", "stl"])
def test_the_steps_are_those_of_pyro(double, monkeypatch, batch_size, estimator):
    """Twelve steps by hand: Pyro's loss and gradient on the program's noise, torch's Adam."""
    x = vb.Dataset({"x": binary(50).double()})
    drawn = []
    from vbayes.training.staged import Staged

    before = Staged.upcoming

    def noted(self, count):
        blocks, which = before(self, count)
        drawn.append((blocks, which))
        return blocks, which

    monkeypatch.setattr(Staged, "upcoming", noted)
    fit = compiled(small_vae(), x, estimator, steps=12, batch_size=batch_size, learning_rate=0.01)
    order, pair = Minibatches(x, batch_size, 0), small_vae()
    pair.initialise(x.batch(pair.model, order.index(1)))
    model, guide = pair.scaled(50)
    method, step = vb.estimators.resolve(estimator), 0
    with pair.scope(), validation(False):
        optimizer = torch.optim.Adam(pair.leaves.values(), lr=0.01)
        for blocks, which in drawn:
            rows = [0] * len(blocks)
            for number in [0] * len(blocks[0].noise[0]) if which is None else which.tolist():
                step += 1
                noise = tuple(kind[rows[number]] for kind in blocks[number].noise)
                rows[number] += 1
                index = order.index(step)
                with Recorder(noise, in_place=True):
                    loss = method.loss_and_grads(model, guide, *x.batch(pair.model, index).args)
                assert fit.history.elbo[step - 1] == pytest.approx(-loss, rel=1e-9)
                optimizer.step()
                optimizer.zero_grad()
        assert step == 12
        for name, leaf in pair.leaves.items():
            torch.testing.assert_close(fit.pair.parameters[name], leaf.detach(), rtol=1e-8, atol=1e-8)


def test_the_order_is_a_permutation_in_each_epoch_and_depends_on_the_seed():
    data = vb.Dataset({"x": torch.arange(23.0)})
    order, other = Minibatches(data, 5, 0), Minibatches(data, 5, 1)
    assert order.per_epoch == 5 and order.sizes == (5, 3)
    seen = [order.index(step).tolist() for step in range(1, 11)]
    for epoch in (seen[:5], seen[5:]):
        assert [len(rows) for rows in epoch] == [5, 5, 5, 5, 3] and sorted(sum(epoch, [])) == list(range(23))
    assert seen[:5] != seen[5:] and seen[0] != other.index(1).tolist()
    rows, which = order.ahead(4, 9)
    taken = [0, 0]
    for step, number in enumerate(which.tolist(), start=4):
        assert rows[number][taken[number]].tolist() == order.index(step).tolist()
        taken[number] += 1


OPTIMISERS = {
    "Adam": {"learning_rate": 0.01},
    "ClippedAdam": {"optimizer": pyro.optim.ClippedAdam({"lr": 0.02, "lrd": 0.95})},
    "SGD": {"optimizer": functools.partial(torch.optim.SGD, momentum=0.9), "learning_rate": 1e-4},
    "NAdam": {"optimizer": torch.optim.NAdam, "learning_rate": 0.01},
}


@pytest.mark.slow
@pytest.mark.parametrize("options", OPTIMISERS.values(), ids=OPTIMISERS)
def test_resuming_equals_never_having_stopped(options, data, tmp_path):
    if options is not OPTIMISERS["Adam"]:
        data = data.rows(slice(0, 40))  # batches of one size, and so one program; Adam has two
    options = {"batch_size": 20, **options}
    whole = compiled(small_vae(), data, "stl", steps=10, **options)
    part = compiled(small_vae(), data, "stl", steps=4, **options)
    assert part.progress.staged
    saved = part.save(tmp_path / "part.safetensors")
    again = vb.Fit.load(saved, small_vae(), data, estimator="stl", optimizer=options.get("optimizer", torch.optim.Adam))
    assert same(part.resume(steps=6, progress=False), whole)
    assert same(again.resume(steps=3, progress=False).resume(steps=3, progress=False), whole)
    assert part.steps == 4


@pytest.mark.slow
def test_a_program_is_made_where_it_pays(data):
    assert not vb.fit(small_vae(), data, steps=399, progress=False).progress.staged
    long = vb.fit(small_vae(), data, steps=400, progress=False)
    assert long.progress.staged and long.resume(steps=1, progress=False).progress.staged
    assert not vb.fit(small_vae(), data, steps=400, compile=False, progress=False).progress.staged
    with pytest.raises(
        vb.errors.BadInput, match="compile='yes' is not a valid choice. Wanted: 'auto', True, False, 'native'"
    ):
        vb.fit(small_vae(), data, compile="yes")


def test_callbacks_see_every_step_once(data):
    seen = []
    fit = compiled(small_vae(), data, steps=500, callbacks=[lambda state: seen.extend(state.new_rows)])
    assert [tuple(row) for row in seen] == list(fit.rows) and [row[0] for row in seen] == list(range(1, 501))
    assert fit.history.seconds.is_monotonic_increasing


def test_ctrl_c_returns_the_last_finished_interval(data):
    def press(state):
        if state.step > 20:
            signal.raise_signal(signal.SIGINT)

    fit = compiled(small_vae(), data, steps=10**6, callbacks=[press])
    assert fit.interrupted and 20 < fit.steps < 10**5
    assert same(fit.resume(steps=7, progress=False), compiled(small_vae(), data, steps=fit.steps + 7))


def test_not_finite_names_step_and_site_and_keeps_the_rest():
    x = torch.full((4,), 0.01)
    with pytest.raises(vb.errors.NonFinite, match=r"step \d+; site 'x' has a log-density") as caught:
        compiled(exploding(), x, steps=5000, optimizer=torch.optim.SGD, learning_rate=5.0)
    error = caught.value
    assert error.sites == ("x",) and error.step == error.fit.steps + 1 > 1
    assert all(torch.isfinite(v).all() for v in error.fit.pair.parameters.values())
    assert error.fit.history.elbo.notna().all() and len(error.fit.history) == error.step - 1


def test_what_cannot_be_captured_says_which_line_and_trains():
    def model(x):
        z = pyro.sample("z", dist.Normal(0.0, 1.0))
        scale = 1.0 if z > 0 else 2.0
        with pyro.plate("data", len(x)):
            pyro.sample("x", dist.Normal(z, 1.0 + scale), obs=x)

    pair = vb.Pair(model, pyro.infer.autoguide.AutoNormal(model), name="peeking")
    with pytest.warns(UserWarning, match=r"line \d+ of test_compiled_fit.py: `scale = 1.0 if z") as caught:
        fit = compiled(pair, torch.tensor([1.0, 2.0]), "trace", steps=10)
    assert fit.steps == 10 and not fit.progress.staged and len(caught) == 1


def test_a_model_that_changes_goes_on_by_pyro():
    scale = 1.0

    def model(x):
        z = pyro.sample("z", dist.Normal(0.0, 1.0))
        with pyro.plate("data", len(x)):
            pyro.sample("x", dist.Normal(z, scale), obs=x)

    def anneal(state):
        nonlocal scale
        scale = 1.0 + state.step / 100

    pair = vb.Pair(model, pyro.infer.autoguide.AutoNormal(model), name="annealed")
    with pytest.warns(UserWarning, match="Pair 'annealed' reads `scale` besides its arguments; that keeps changing"):
        fit = compiled(pair, torch.tensor([1.0, 2.0]), "trace", steps=300, callbacks=[anneal])
    assert fit.steps == 300 and not fit.progress.staged


def test_modules_with_buffers_move_as_in_pyro():
    x = binary(40)

    def pair():
        with vb.seeded(0):
            decoder = torch.nn.Sequential(torch.nn.Linear(2, 6), torch.nn.BatchNorm1d(6))

        def model(x):
            pyro.module("decoder", decoder)
            with pyro.plate("data", len(x)):
                z = pyro.sample("z", dist.Normal(x.new_zeros(2), 1.0).to_event(1))
                pyro.sample("x", dist.Bernoulli(logits=decoder(z)).to_event(1), obs=x)

        def guide(x):
            with pyro.plate("data", len(x)):
                pyro.sample("z", dist.Normal(x[:, :2], 1.0).to_event(1))

        return vb.Pair(model, guide), decoder

    mine, decoder = pair()
    fit = compiled(mine, x, steps=8, batch_size=20)
    state = fit.pair.state()
    assert int(state["buffer.0.1.num_batches_tracked"]) == 8 and int(decoder[1].num_batches_tracked) == 0
    # Each step moves the running variance a tenth of the way to a batch's, which is far below one here.
    assert (state["buffer.0.1.running_var"] < 0.9).all()


@pytest.fixture
def no_compiler(monkeypatch, tmp_path):
    monkeypatch.setenv("VBAYES_CACHE", str(tmp_path))
    monkeypatch.setenv("CC", "/nowhere/cc")
    monkeypatch.setenv("PATH", "/nowhere")
    functions = (build.compiler, build.compiler_version, build.vector_math, build.processor, say_once)
    for function in functions:
        function.cache_clear()
    yield
    for function in functions:
        function.cache_clear()


@pytest.mark.slow
@pytest.mark.on_cpu
def test_without_a_compiler_it_says_so_once_and_gives_the_same_numbers(data, no_compiler, monkeypatch):
    with pytest.warns(UserWarning, match="no C compiler was found") as caught:
        bare = compiled(small_vae(), data, "stl", steps=7, batch_size=20)
        compiled(small_vae(), data, "stl", steps=3)
    assert len(caught) == 1
    monkeypatch.undo()
    for function in (build.compiler, build.compiler_version, build.vector_math, build.processor):
        function.cache_clear()
    with_one = compiled(small_vae(), data, "stl", steps=7, batch_size=20)
    assert bare.history.elbo.tolist() == pytest.approx(with_one.history.elbo.tolist(), rel=1e-5)


@pytest.mark.slow
@pytest.mark.on_cpu
def test_a_cache_that_is_damaged_or_closed(data, monkeypatch, tmp_path):
    build.threads()  # a library that a process makes once, in whatever folder
    monkeypatch.setenv("VBAYES_CACHE", str(tmp_path))
    right = compiled(small_vae(), data, steps=3).history.elbo.tolist()
    (good,) = (tmp_path / "programs").glob("*.so")
    damaged = tmp_path / "other" / "programs" / good.name
    damaged.parent.mkdir(parents=True)
    damaged.write_bytes(b"not a library")
    monkeypatch.setenv("VBAYES_CACHE", str(tmp_path / "other"))
    assert compiled(small_vae(), data, steps=3).history.elbo.tolist() == right
    assert damaged.stat().st_size == good.stat().st_size
    closed = tmp_path / "a file"
    closed.write_text("in the way of a folder")
    monkeypatch.setenv("VBAYES_CACHE", str(closed))
    assert compiled(small_vae(), data, steps=3).history.elbo.tolist() == right


@pytest.mark.parametrize("dtype", [torch.float64, torch.int64])
def test_data_of_another_type(dtype):
    x = torch.tensor([1.0, 2.0, 3.0, 4.0])
    right = compiled(vb.pairs.normal_normal(), x[:2], "trace", steps=20)
    mine = compiled(vb.pairs.normal_normal(), x[:2].to(dtype), "trace", steps=20)
    assert mine.history.elbo.tolist() == pytest.approx(right.history.elbo.tolist(), rel=1e-5)
    wide = torch.stack([x, x], 1).t()  # its rows do not lie together
    several = vb.Dataset({"x": wide[0]}), vb.Dataset({"x": x})
    ends = [compiled(small_normal(), part, "trace", steps=20, batch_size=3).history.elbo.tolist() for part in several]
    assert ends[0] == ends[1]


def small_normal() -> vb.Pair:
    def model(x):
        mu = pyro.sample("mu", dist.Normal(0.0, 5.0))
        with pyro.plate("data", len(x)):
            pyro.sample("x", dist.Normal(mu, 1.0), obs=x)

    return vb.Pair(model, pyro.infer.autoguide.AutoNormal(model))


def test_nothing_to_do_changes_nothing(data):
    fit = compiled(small_vae(), data, steps=3)
    again = vb.Fit.resume(fit, steps=0, progress=False)
    assert same(fit, again) and again.progress.staged
    assert same(again.resume(steps=2, progress=False), fit.resume(steps=2, progress=False))
