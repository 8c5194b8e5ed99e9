"""What only a CUDA device can tell of recorded graphs: `pytest --device cuda tests/staging`."""

from __future__ import annotations

import contextlib
import gc
import threading

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro.infer.autoguide import AutoNormal

import vbayes as vb
from vbayes.staging import backends, cuda_capture, cuda_graph
from vbayes.staging.cuda_capture import recorded
from vbayes.staging.cuda_graph import InPlace, Replay
from vbayes.staging.step import guarded

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")


@pytest.fixture(autouse=True)
def no_xla(monkeypatch):
    monkeypatch.setattr(backends, "xla_or_why", lambda *args, **options: (None, "no XLA for the sake of a test"))


def require_usable(device):
    """Random numbers, memory and captures all work."""
    torch.randn(3, device=device)
    torch.cuda.empty_cache()
    torch.cuda.synchronize(device)
    number = torch.zeros((), device=device)
    (launch,) = recorded(lambda: number.add_(1), device=device)
    number.zero_()
    launch()
    launch()
    assert float(number) == 2


@pytest.mark.parametrize("alone", [True, False], ids=["told before", "fails in the capture"])
@pytest.mark.parametrize(
    "read",
    [
        lambda x: x.mul_(float(x.sum())),
        lambda x: x[x > 0],
        lambda x: torch.linalg.cholesky(x.diag()),
        lambda x: torch.linalg.eigh(x.diag()),
        lambda x: x.add_(torch.ones(4, device="cpu").to(x.device)),
        lambda x: torch.repeat_interleave(x, torch.ones(4, dtype=torch.int64, device=x.device)),
    ],
    ids=["item", "mask", "cholesky", "eigh", "copy", "repeat"],
)
def test_after_a_refusal_everything_is_as_before(monkeypatch, alone, read):
    monkeypatch.setattr(cuda_capture, "_alone", lambda: alone)
    x = torch.ones(4, device="cuda")
    state, stream, device = torch.cuda.get_rng_state(), torch.cuda.current_stream(), torch.cuda.current_device()
    with pytest.raises(RuntimeError):
        recorded(lambda: read(x), device=x.device)
    assert (torch.cuda.current_stream(), torch.cuda.current_device()) == (stream, device)
    assert torch.equal(torch.cuda.get_rng_state(), state) and torch.cuda.get_sync_debug_mode() == 0
    require_usable(x.device)


@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="needs two CUDA devices")
def test_a_device_that_is_not_the_current_one():
    for number in (0, 1, 0):
        require_usable(torch.device("cuda", number))
        assert torch.cuda.current_device() == 0


def test_on_a_stream_of_the_callers_own():
    x, stream = torch.zeros(1000, device="cuda"), torch.cuda.Stream()
    step = InPlace(lambda state, row: [state + row, state.sum()], [x], [torch.ones((), device="cuda")])
    one = torch.ones((), device="cuda")
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for taken in range(5):
            assert float(step(one)[0]) == 1000 * taken
        assert torch.cuda.current_stream() == stream


def test_while_another_thread_is_at_work():
    """Which allocates, copies to the host and waits for its stream."""
    done, errors, rounds = threading.Event(), [], []

    def work():
        try:
            while not done.is_set():
                with torch.cuda.stream(torch.cuda.Stream()):
                    torch.ones(len(rounds) % 1000 + 1, device="cuda").sum().item()
                rounds.append(1)
        except Exception as error:
            errors.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    try:
        for _ in range(10):
            require_usable(torch.device("cuda", 0))
    finally:
        done.set()
        thread.join()
    assert not errors and rounds


def test_memory_of_graphs_is_given_back():
    x = torch.randn(500, 500, device="cuda")

    def once():
        step = InPlace(lambda state: [state, (state @ state).exp().sum()], [x], [])
        step()

    held = []
    for _ in range(4):
        once()
        gc.collect()
        torch.cuda.synchronize()
        torch.cuda.empty_cache()
        held.append(torch.cuda.memory_reserved())
    assert held[-1] <= held[1]


@contextlib.contextmanager
def deterministic(on):
    before = torch.are_deterministic_algorithms_enabled()
    torch.use_deterministic_algorithms(on)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before)


def grouped(group, y):
    spread = pyro.sample("spread", dist.HalfNormal(y.new_ones(())))
    with pyro.plate("groups", 5):
        effect = pyro.sample("effect", dist.Normal(y.new_zeros(()), spread))
    with pyro.plate("data", len(y)):
        pyro.sample("y", dist.Normal(effect[group], 1.0), obs=y)


@pytest.mark.parametrize("on", [False, True], ids=["any order", "deterministic"])
@pytest.mark.parametrize("more", [{}, {"restarts": 3}], ids=["one", "several"])
def test_groups_by_index_are_recorded(monkeypatch, on, more):
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    data = torch.arange(40) % 5, torch.linspace(-1, 1, 40)
    made = {}
    for device in ("cuda", "cpu"):
        with deterministic(on and device == "cuda"):
            fit = vb.fit(
                vb.Pair(grouped, AutoNormal(grouped)), data, "stl", device=device, steps=30, compile=True, progress=False, seed=0, **more
            )  # fmt: skip
        made[device] = getattr(fit, "fits", [fit])[0]
    assert made["cuda"].engine == "recorded graph"
    assert made["cuda"].history.elbo.mean() == pytest.approx(made["cpu"].history.elbo.mean(), rel=0.1)


def test_a_factor_that_does_not_exist_is_nan_on_the_card():
    """Whatever its kernel leaves."""

    def factor(matrix):
        return [torch.linalg.cholesky(matrix), torch.linalg.inv(matrix)]

    good = 2 * torch.eye(3, device="cuda") + 0.5
    pure = InPlace(factor, [], [good])
    for mine, right in zip(pure(good), factor(good), strict=True):
        torch.testing.assert_close(mine, right)
    assert pure(good - 4.0)[0].isnan().all() and pure(torch.zeros_like(good))[1].isnan().all()
    assert pure(good)[0].isfinite().all()


@pytest.mark.slow
@pytest.mark.parametrize("graphs", [False, True], ids=["usual", "with graphs of its own"])
def test_kernels_are_fused(monkeypatch, graphs):
    """By torch's compiler, also where the user has told it to record graphs itself."""
    from torch._inductor import config

    monkeypatch.setattr(config.triton, "cudagraphs", graphs)
    monkeypatch.setattr(cuda_graph, "FUSED", 10)

    def step(taken, state, row):
        return [taken + 1, (state * 0.5 + row).tanh(), state.sum(), torch.isfinite(state).all()]

    start = [torch.zeros((), device="cuda"), torch.zeros(20, device="cuda")]
    rows = torch.linspace(-1, 1, 40, device="cuda")
    replay = Replay(guarded(step, 2), start, [rows[0]], [], capacity=40, recorded=True)
    plain = replay._guarded
    (taken, state), values = replay.run(start, [rows])
    right = torch.zeros(20, device="cuda")
    for row in rows:
        right = (right * 0.5 + row).tanh()
    assert replay._guarded is not plain and float(taken) == 40 and len(values) == 40
    torch.testing.assert_close(state, right)
    require_usable(state.device)
