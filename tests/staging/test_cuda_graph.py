"""What a CUDA graph records, run again as it is, on tensors that pass for ones on a card: the same numbers, and recorded as seldom as can be.

No kernel is run here and nothing is recorded: how quick it is, and what the card refuses to record, these tests do not know.
"""

from __future__ import annotations

import functools

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro.infer import SVI, Trace_ELBO
from pyro.infer.autoguide import AutoNormal

import vbayes as vb
from tests.devices.stand_in import on_cuda, stand_in
from tests.models import binary, small_vae
from vbayes.staging import Compiled, Replicated, backends, cuda_capture, cuda_graph, draw_noise, replicate, stage
from vbayes.staging.cuda_graph import CHAIN, InPlace, Replay
from vbayes.staging.replicate import footprint
from vbayes.staging.step import guarded

Y = torch.tensor([28.0, 8, -3, 7, -1, 1, 18, 12])
SIGMA = torch.tensor([15.0, 10, 16, 11, 9, 11, 10, 18])


def schools(y, sigma, scale=1.0):
    zero = y.new_zeros(())
    mu = pyro.sample("mu", dist.Normal(zero, 5.0))
    tau = pyro.sample("tau", dist.HalfCauchy(zero + 5.0))
    with pyro.plate("data", len(y)):
        theta = pyro.sample("theta", dist.Normal(mu, tau))
        pyro.sample("y", dist.Normal(theta, sigma * scale), obs=y)


@pytest.fixture
def recordings(monkeypatch):
    """How often something was recorded."""
    seen = []
    was = cuda_graph.recorded

    def counted(*functions, device):
        seen.extend(functions)
        return was(*functions, device=device)

    monkeypatch.setattr(cuda_graph, "recorded", counted)
    return seen


@pytest.fixture
def card(request):
    """A card, and no other back end on it."""
    with pytest.MonkeyPatch.context() as patched, on_cuda(request.config.getoption("--device")):
        patched.setattr(backends, "xla_or_why", lambda *args, **options: (None, "no XLA for the sake of a test"))
        yield


def counting(state, row, column):
    after = state * 0.5 + row + column
    return [after, after.sum(), torch.isfinite(after).all()]


def steps_of(launch, count, *, fused=cuda_graph.FUSED, broken=None, monkeypatch=None, lent=False):
    """States and values after some steps, on the device that `launch` stands for."""
    state, column = torch.tensor([0.0, 1.0, 2.0]), torch.tensor(0.1)
    rows = torch.arange(count, dtype=torch.float32)
    if broken is not None:
        rows[broken] = torch.inf
    replay = Replay(guarded(counting, 1), [state], [rows[0]], [column], capacity=count, recorded=launch, lent=lent)
    return replay.run([state], [rows], [column])


@pytest.mark.parametrize("count", [1, CHAIN - 1, CHAIN, 2 * CHAIN + 3])
@pytest.mark.parametrize("broken", [None, 0, 5])
def test_chains_and_single_steps_are_the_steps(count, broken):
    if broken is not None and broken >= count:
        return
    (state,), values = steps_of(False, count, broken=broken)
    right, seen = torch.tensor([0.0, 1.0, 2.0]), []
    for row in range(count if broken is None else broken):
        right = right * 0.5 + row + torch.tensor(0.1)
        seen.append(right.sum())
    assert len(values) == len(seen) and torch.equal(state, right)
    assert torch.equal(values, torch.stack(seen) if seen else values)


def test_columns_that_are_lent_are_left_alone(card):
    mine, theirs = torch.zeros((), device="cuda"), torch.ones((), device="cuda")
    state, rows = torch.zeros(3, device="cuda"), torch.zeros(4, device="cuda")
    replay = Replay(guarded(counting, 1), [state], [rows[0]], [mine], capacity=4, recorded=True, lent=True)
    assert (
        float(replay.run([state], [rows], [theirs])[1][0]) == 3
        and float(replay.run([state], [rows], [mine])[1][0]) == 0
    )
    assert float(mine) == 0 and float(theirs) == 1


def test_fused_after_so_many_steps_however_they_are_divided(card, monkeypatch, recordings):
    """The number that a training has taken decides, so that resumed or not, it has the same numbers."""
    monkeypatch.setattr(cuda_graph, "FUSED", 10)
    monkeypatch.setattr(torch, "compile", lambda graph, dynamic, options: lambda *given: [t * 1 for t in graph(*given)])

    def step(taken, state, row):
        return [taken + 1, state + row, state.sum(), torch.isfinite(state).all()]

    rows = torch.ones(17, device="cuda")
    for parts in ([17], [10, 7], [3, 9, 5]):
        replay = Replay(
            guarded(step, 2),
            [torch.zeros((), device="cuda"), torch.zeros(2, device="cuda")],
            [rows[0]],
            [],
            capacity=17,
            recorded=True,
        )
        plain, states, when = replay._guarded, [torch.zeros((), device="cuda"), torch.zeros(2, device="cuda")], []
        was = replay._fuse
        monkeypatch.setattr(replay, "_fuse", lambda was=was, when=when: when.append(1) or was())
        for part in parts:
            states, values = replay.run(states, [rows[:part]])
            assert len(values) == part and (replay._guarded is not plain) == (float(states[0]) > 10)
        assert when == [1] and states[1].tolist() == [17.0, 17.0]


def test_in_place(card, recordings):
    state = torch.zeros(2, device="cuda")
    step = InPlace(lambda state, row: [state + row, state.sum()], [state], [torch.ones((), device="cuda")])
    assert state.tolist() == [0.0, 0.0] and step.over([state]) and not step.over([state.clone()])
    for taken in (1, 2, 3):
        (value,) = step(torch.ones((), device="cuda"))
        assert state.tolist() == [taken, taken] and float(value) == 2 * (taken - 1)
    assert len(recordings) == 1


def test_arguments_on_the_host_are_copied_to_the_card(card):
    """A kernel takes along the number of one without dimensions, and a graph would launch it with that for ever."""
    state, rows = torch.zeros(3, device="cuda"), torch.zeros(1, device="cuda")
    step = InPlace(lambda held, scale: [held + scale, held.sum()], [state], [torch.ones((), device="cpu")])
    replay = Replay(guarded(counting, 1), [state], [rows[0]], [torch.ones((), device="cpu")], capacity=1, recorded=True, lent=True)  # fmt: skip
    for number in (1.0, 2.0):
        there = torch.tensor(number, device="cpu")
        step(there)
        assert float(replay.run([torch.zeros_like(state)], [rows], [there])[1][0]) == 3 * number
    assert state.tolist() == [3, 3, 3]


def svi_steps(kind, device, data, steps=12, **options):
    with pyro.get_param_store().scope(), vb.seeded(3):
        svi = kind(schools, AutoNormal(schools), pyro.optim.Adam({"lr": 0.05}), loss=Trace_ELBO(), **options)
        losses = [svi.step(*(t.to(device) for t in data), scale=scale) for _ in range(steps) for scale in (1.0, 2.0)]
        return losses, {k: v.detach().cpu().clone() for k, v in pyro.get_param_store().items()}, svi


@pytest.mark.slow
def test_svi_records_a_graph_for_each_kind_of_arguments(card, recordings):
    losses, values, svi = svi_steps(functools.partial(vb.SVI, compile=True), "cuda", (Y, SIGMA), 4)
    right, theirs, _ = svi_steps(SVI, "cpu", (Y, SIGMA), 4)
    assert svi.engine == "recorded graph" and len(recordings) == 2
    assert losses == pytest.approx(right, rel=1e-4)
    for name, value in theirs.items():
        torch.testing.assert_close(values[name], value, rtol=1e-4, atol=1e-5)


@pytest.mark.slow
def test_a_run_of_svi_is_recorded_too(card, recordings):
    data = Y.to("cuda"), SIGMA.to("cuda")
    with pyro.get_param_store().scope(), vb.seeded(3):
        svi = vb.SVI(schools, AutoNormal(schools), pyro.optim.Adam({"lr": 0.05}), loss=Trace_ELBO(), compile=True)
        found = [svi.run(*data, num_steps=60, progress=False) for _ in range(2)]
        one_more = svi.step(*data)
        other = svi.run(data[0] + 1, data[1], num_steps=20, progress=False)
    assert svi.engine == "recorded graph" and all(len(each) == 60 and each.isfinite().all() for each in found)
    assert (
        data[0].cpu().equal(Y) and float(other.mean()) < float(found[0][:10].mean()) and one_more < float(found[0][0])
    )
    assert len(recordings) == 3  # a single step and a chain for all runs, and one in place


@pytest.mark.slow
def test_xla_comes_first_where_it_is_there(monkeypatch):
    """An SVI on a card asks for XLA before it records anything."""
    asked = []

    class Interpreted:
        draws = False

        def __init__(self, fn, states):
            self.fn, self.states = fn, states

        def __call__(self, *inputs):
            made = self.fn(*inputs)
            for held, new in zip(inputs[: self.states], made, strict=False):
                held.copy_(new)
            return made[self.states :]

    def by_xla(fn, examples, states=0, **options):
        asked.append({e.device.type for e in examples})
        return Interpreted(fn, states), None

    monkeypatch.setattr(backends, "xla_or_why", by_xla)
    with stand_in():
        losses, _, svi = svi_steps(functools.partial(vb.SVI, compile=True), "cuda", (Y, SIGMA), 3)
    assert svi.engine == "xla" and asked == [{"cuda"}] * 2 and all(map(torch.isfinite, map(torch.tensor, losses)))


def covariances(y):
    scale = pyro.sample("scale", dist.Normal(y.new_zeros(()), 1.0))
    covariance = scale * torch.ones_like(y).diag() + 0.1
    pyro.sample("y", dist.MultivariateNormal(torch.zeros_like(y), covariance), obs=y)


def scaled(y):
    mean = pyro.param("mean", lambda: 1.3 + torch.zeros((), device=y.device))
    pyro.sample("scale", dist.Normal(mean, 1e-3))


@pytest.mark.parametrize("rate", [0.1, 1.5])
def test_a_model_with_a_factorisation_is_recorded_and_stops_where_there_is_no_factor(card, recordings, rate):
    """As machine code does; the larger rate makes the covariance indefinite."""
    runs = []
    for device in ("cuda", "cpu"):
        pair = vb.Pair(covariances, scaled)
        try:
            fit = vb.fit(pair, (Y / 10,), vb.Pathwise(), steps=12, optimizer=torch.optim.SGD, learning_rate=rate, device=device, compile=True, progress=False, seed=0)  # fmt: skip
        except vb.errors.NonFinite as error:
            fit = error.fit
            assert "not positive-definite" in str(error)
        runs.append((fit.steps, float(fit.pair.parameters["mean"]), fit.engine))
    assert runs[0][2] == "recorded graph" and runs[1][2] == "native" and len(recordings) == 2
    assert runs[0][0] == runs[1][0] and (runs[0][0] == 12) == (rate == 0.1)
    if rate == 0.1:  # a card draws other noise, which hardly matters here
        assert runs[0][1] == pytest.approx(runs[1][1], rel=1e-2) and runs[0][1] < 1.2


def test_a_first_step_without_a_factor_is_recorded_and_not_taken(card):
    def step(state, row):
        factor = torch.linalg.cholesky(state.diag() + row)
        return [state + factor.diagonal(), factor.sum(), torch.isfinite(factor).all()]

    state, rows = torch.ones(3, device="cuda"), torch.tensor([-4.0, 0.5, 0.5], device="cuda")
    replay = Replay(guarded(step, 1), [state], [rows[0]], [], capacity=3, recorded=True)
    (reached,), values = replay.run([state], [rows])
    assert torch.equal(reached, state) and len(values) == 0
    (reached,), values = replay.run([state], [rows[1:]])
    assert not torch.equal(reached, state) and len(values) == 2
    (value,) = InPlace(lambda held, row: step(held, row)[:2], [state], [rows[0]])(rows[0])
    assert value.isnan() and state.isnan().all()  # as machine code leaves it, and Pyro what is not finite


def test_many_gradients_are_recorded_once_and_replayed_by_chunks(card, recordings):
    pair = small_vae().initialise(vb.Batch((binary(12),))).to("cuda")
    batch = vb.Batch((binary(12).to("cuda"),))
    program = stage(pair, vb.STL(), batch)
    values = {name: value.detach() for name, value in pair.parameters.items()}
    many = Replicated(program, values, batch.args, compiled=True, memory=70 * footprint(program))
    with vb.seeded(0), torch.no_grad():
        for count, sizes, times in ((2, [2], 0), (150, [50, 50, 50], 1), (64, [50, 14], 1), (3, [3], 1)):
            noise = draw_noise(program.sizes, count, batch.args[0])
            made = list(many(values, noise, batch.args))
            right, _ = replicate(program, values, noise, batch.args)
            right = torch.cat([gradient.reshape(count, -1) for gradient in right.values()], 1)
            torch.testing.assert_close(torch.cat(made), right, rtol=1e-4, atol=1e-4)
            assert [len(chunk) for chunk in made] == sizes and len(recordings) == times
            values = {name: value + 0.1 for name, value in values.items()}  # other tensors in other places


def test_many_gradients_that_can_not_be_recorded_are_computed_as_before(card, monkeypatch):
    def refuses(*functions, device):
        raise RuntimeError("operation not permitted when stream is capturing")

    monkeypatch.setattr(cuda_graph, "recorded", refuses)
    cuda_capture.say_once.cache_clear()
    pair = small_vae().initialise(vb.Batch((binary(12),))).to("cuda")
    batch = vb.Batch((binary(12).to("cuda"),))
    program = stage(pair, vb.STL(), batch)
    values = {name: value.detach() for name, value in pair.parameters.items()}
    many = Replicated(program, values, batch.args, compiled=True)
    with vb.seeded(0), torch.no_grad():
        noise = draw_noise(program.sizes, 80, batch.args[0])
        with pytest.warns(UserWarning, match="no CUDA graph of it can be recorded"):
            made = torch.cat(list(many(values, noise, batch.args)))
        right, _ = replicate(program, values, noise, batch.args)
        right = torch.cat([gradient.reshape(80, -1) for gradient in right.values()], 1)
        torch.testing.assert_close(made, right, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("static", [True, False])
def test_a_function_of_nested_tensors_is_recorded_if_it_draws_nothing(card, recordings, static):
    def fn(held, scale):
        return {"sum": held["x"].sum() * scale}, (held["x"] + scale, held["x"])

    def given(number):
        return {"x": torch.full((2,), number, device="cuda")}, torch.tensor(number, device="cpu")

    made = Compiled(fn, *given(1.0), static=static)
    assert made.recorded == static and not recordings
    for number in (1.0, 2.0, 3.0):
        found, (moved, same) = made(*given(number))
        assert (
            float(found["sum"]) == 2 * number**2
            and moved.tolist() == [2 * number] * 2
            and same.tolist() == [number] * 2
        )
    assert len(recordings) == static


def test_a_function_that_can_not_be_recorded_is_called(card):
    cuda_capture.say_once.cache_clear()
    made = Compiled(lambda x: (torch.linalg.eigvalsh(x),), torch.eye(2, device="cuda"), static=True)
    with pytest.warns(UserWarning, match="recorded: linalg_eigh brings a value to the host"):
        assert made(2 * torch.eye(2, device="cuda"))[0].tolist() == [2, 2]
    assert not made.recorded and made.why_not == "no CUDA graph of it can be recorded"


@pytest.mark.slow
def test_gradients_for_an_optimiser_of_ones_own_are_recorded(card, recordings):
    class OwnSGD(torch.optim.SGD):
        pass

    fits = [
        vb.fit(small_vae(), binary(12), "stl", steps=20, optimizer=OwnSGD, learning_rate=0.01, compile=True, device=device, progress=False, seed=0)
        for device in ("cuda", "cpu")
    ]  # fmt: skip
    assert fits[0].engine == "recorded graph, but for the optimiser's own step: OwnSGD" and len(recordings) == 1
    assert fits[0].rows.elbo.mean() == pytest.approx(fits[1].rows.elbo.mean(), rel=0.1)


def test_half_a_fused_step_is_never_used(card, monkeypatch):
    """Where torch's compiler makes a step that can't be recorded, the graphs of before remain, all of them."""
    replay = Replay(
        guarded(counting, 1), [torch.zeros(3, device="cuda")], [torch.zeros((), device="cuda")],
        [torch.zeros((), device="cuda")], capacity=4, recorded=True,
    )  # fmt: skip
    before = replay._one, replay._chain, replay._guarded

    def refuses(*functions, device):
        raise RuntimeError("operation not permitted when stream is capturing")

    monkeypatch.setattr(cuda_graph, "recorded", refuses)
    options = {}
    monkeypatch.setattr(torch, "compile", lambda graph, **given: options.update(given) or graph)
    replay._fuse()
    assert (replay._one, replay._chain, replay._guarded) == before
    assert options["options"] == {"triton.cudagraphs": False}  # none inside of ours, whatever the user has set


@pytest.mark.slow
def test_what_cannot_be_recorded_is_interpreted_and_says_so(card, monkeypatch):
    def refuses(*functions, device):
        raise RuntimeError("operation not permitted when stream is capturing")

    monkeypatch.setattr(cuda_graph, "recorded", refuses)
    cuda_capture.say_once.cache_clear()
    with pytest.warns(UserWarning, match="no CUDA graph of it can be recorded"):
        losses, _, svi = svi_steps(functools.partial(vb.SVI, compile=True), "cuda", (Y, SIGMA), 3)
    assert svi.engine == "interpreted: no CUDA graph of it can be recorded"
    assert losses == pytest.approx(svi_steps(SVI, "cpu", (Y, SIGMA), 3)[0], rel=1e-4)


@pytest.mark.slow
def test_a_fit_is_recorded_before_anything_is_fused(card, recordings, monkeypatch):
    monkeypatch.setattr(
        torch, "compile", lambda *args, **options: pytest.fail("torch's compiler takes longer than these steps")
    )
    fit = vb.fit(
        small_vae(), binary(12), "stl", steps=20, batch_size=4, compile=True, device="cuda", progress=False, seed=0
    )
    right = vb.fit(
        small_vae(), binary(12), "stl", steps=20, batch_size=4, compile=True, device="cpu", progress=False, seed=0
    )
    assert fit.engine == "recorded graph" and len(recordings) == 2  # a single step, and a chain
    assert fit.rows.elbo.mean() == pytest.approx(right.rows.elbo.mean(), rel=0.1)
