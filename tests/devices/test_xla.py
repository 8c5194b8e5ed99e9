"""What XLA and torch lend each other on a card: as strict as a real one, on tensors that pass for ones there; with `--device cuda`, on the card itself.

The stand-in's numbers are XLA's on the processor; its program takes the ways of a card, and jax has to be told where memory begins and which device is current.
"""

from __future__ import annotations

import contextlib
import weakref
from types import SimpleNamespace

import pytest
import torch

import vbayes as vb
from tests.devices.stand_in import CUDA, on_cuda, put
from tests.models import binary, small_vae
from vbayes.staging import backends
from vbayes.staging.machine_code import simplified

pytest.importorskip("jax")  # the extra `xla`, which the extra `test` brings

import jax

from vbayes.staging.xla import crossing, load, program
from vbayes.staging.xla.crossing import ALIGNED, SMALL
from vbayes.staging.xla.program import XLA
from vbayes.staging.xla.translate import supported

quick = {"progress": False, "seed": 3, "learning_rate": 0.01}


class Card:
    """The rules of a card: whose memory may be lent, and when it may be taken back.

    Attributes:
        current: torch's current device, which is another one at first.
        reading: Arrays of which torch's stream may not have copied everything.
        broken: What was broken of these rules.
    """

    def __init__(self) -> None:
        self.current, self.reading, self.broken, self.waits = torch.device("cuda", 1), set(), [], 0
        self._read, self._lend = torch.from_dlpack, jax.dlpack.from_dlpack

    @contextlib.contextmanager
    def device(self, wanted):
        before, self.current = self.current, torch.device(wanted)
        yield
        self.current = before

    def lend(self, tensor):
        if tensor.device.type == "cpu":
            return self._lend(tensor)
        if tensor.device != self.current:
            raise BufferError(f"Can't export tensors on a different CUDA device index: {self.current}")
        if tensor.data_ptr() % ALIGNED:
            raise jax.errors.JaxRuntimeError("INTERNAL: Address of buffer 0 must be a multiple of 16")
        return self._lend(tensor)

    def read(self, array):
        if self.current != CUDA:  # a program of the processor
            return self._read(array)
        key = id(array)
        self.reading.add(key)
        weakref.finalize(array, self._freed, key)
        return put(self._read(array), "cuda")

    def _freed(self, key):
        if key in self.reading:
            self.broken.append("jax took back memory that torch still reads")

    def stream(self, device=None):
        assert torch.device(device) == self.current
        return SimpleNamespace(synchronize=self._waited)

    def _waited(self):
        self.waits += 1
        self.reading.clear()


@pytest.fixture
def card(request):
    """A card with XLA; None where it is a real one."""
    if request.config.getoption("--device") == "cuda":
        if why := load.missing("cuda"):
            pytest.skip(why)
        yield None
        return
    rules = Card()
    with pytest.MonkeyPatch.context() as patched, on_cuda(request.config.getoption("--device")):
        patched.setattr(backends, "missing", lambda kind: "")
        patched.setattr(program, "device_of", lambda where: jax.local_devices(backend="cpu")[0])
        patched.setattr(crossing.jax.dlpack, "from_dlpack", rules.lend)
        patched.setattr(torch, "from_dlpack", rules.read)
        patched.setattr(torch.cuda, "device", rules.device)
        patched.setattr(torch.cuda, "current_stream", rules.stream)
        yield rules
    assert not rules.broken and not rules.reading


def made(fn, examples, states=0):
    return XLA(simplified(fn, examples, supported), states, CUDA)


def test_a_fit(card):
    """Many steps in a call: the numbers of torch on the processor."""
    how = {"steps": 40, **quick}
    fit = vb.fit(small_vae(), binary(), device="cuda", compile="xla", **how)
    assert fit.engine == "xla" and fit.pair.device.type == "cuda"
    other = vb.fit(small_vae(), binary(), device="cpu", compile="torch", **how)
    assert fit.history.elbo.tolist() == pytest.approx(other.history.elbo.tolist(), rel=1e-4)
    assert card is None or card.waits


@pytest.mark.slow
def test_many_gradients(card):
    fits = [vb.fit(small_vae(), binary(), steps=1, device=where, compile=False, **quick) for where in ("cuda", "cpu")]
    how = {"replicas": 100, "at": "start", "compile": "xla", "progress": False}
    there, here = (vb.compare(fit, binary(), ["pathwise"], **how).to_dataframe() for fit in fits)
    assert there.captured.tolist() == ["yes"] * len(there) and len(there) == len(here)


def test_memory_that_begins_anywhere(card):
    """A large column without its first row, as of a time series, is no multiple of 16 bytes away from an address that is one."""
    x = torch.arange(float(SMALL + 2), device=CUDA)
    run = made(lambda x: [x * 2], [x[1:]])
    assert torch.equal(run(x[1:])[0].cpu(), x[1:].cpu() * 2)
    (rows,) = run.side_by_side([torch.stack([x, x])[:, 1:]], [])
    assert torch.equal(rows[1].cpu(), x[1:].cpu() * 2)


def test_a_state_is_overwritten_in_its_own_memory(card):
    state, x = torch.zeros(3, device=CUDA), torch.ones(3, device=CUDA)
    run = made(lambda state, x: [state + x, x.sum()], [state, x], 1)
    for _ in range(3):
        (total,) = run(state, x)
    assert state.tolist() == [3.0] * 3 and float(total) == 3


def test_scattering_adds_in_one_order_where_torch_is_told_to(card):
    """XLA's kernels are chosen by their times, and add in whatever order."""
    index, x = torch.zeros(4, dtype=torch.int64, device=CUDA), torch.ones(4, device=CUDA)

    def fn(index, x):
        return [x.new_zeros(2).scatter_add(0, index, x)]

    assert made(fn, [index, x])._options is None
    torch.use_deterministic_algorithms(True)
    try:
        run = made(fn, [index, x])
    finally:
        torch.use_deterministic_algorithms(False)
    assert run._options == {"xla_gpu_deterministic_ops": True}
    assert run(index, x)[0].tolist() == [4.0, 0.0]  # jax knows the option


def test_runs_side_by_side_fit_into_memory(card, monkeypatch):
    x = torch.arange(12.0, device=CUDA).view(6, 2)
    run = made(lambda x: [x.exp().sum()], [x[0]])
    monkeypatch.setattr(program, "ROOM", 2 * run._bytes)
    assert run.side_by_side([x], [])[0].tolist() == pytest.approx(x.cpu().exp().sum(1).tolist())
    assert {size for _, size in run._side_by_side} == {2}


# ---- what a card alone can tell --------------------------------------------------------------------------------------


@pytest.fixture
def real(request):
    if request.config.getoption("--device") != "cuda":
        pytest.skip("what kernels do, which the stand-in has none of")
    if why := load.missing("cuda"):
        pytest.skip(why)


def product(size=512):
    """A product by XLA's relative error."""
    a, b = (torch.randn(size, size, generator=torch.Generator().manual_seed(seed)) for seed in (1, 2))
    there = a.to(CUDA), b.to(CUDA)
    found, right = made(lambda a, b: [a @ b], there)(*there)[0].cpu().double(), a.double() @ b.double()
    return float((found - right).abs().max() / right.abs().max())


def test_products_on_a_card_are_as_precise_as_torch_is_told(real):
    assert product() < 1e-5
    torch.set_float32_matmul_precision("high")
    try:
        coarse = product()
    finally:
        torch.set_float32_matmul_precision("highest")
    assert coarse < 1e-2 and (coarse > 1e-5 or torch.cuda.get_device_capability()[0] < 8)


def test_a_program_on_the_second_card(real):
    if torch.cuda.device_count() < 2:
        pytest.skip("there is one card")
    x = torch.arange(5.0, device="cuda:1")
    run = XLA(simplified(lambda x: [x + 1], [x], supported), 0, x.device)
    (found,) = run(x)
    assert found.device == x.device and torch.equal(found.cpu(), x.cpu() + 1) and torch.cuda.current_device() == 0


def test_nothing_is_read_too_late_or_written_too_soon(real):
    """Each call's inputs are made just before it and overwritten just after, with a stream that is kept busy meanwhile."""
    x, busy = torch.zeros(10**6, device=CUDA), torch.randn(4000, 4000, device=CUDA)
    run = made(lambda x: [x * 2, x.sum()], [x])
    found = []
    for number in range(50):
        busy @ busy
        x.fill_(number)
        doubled, _ = run(x)
        busy @ busy
        found.append(doubled.clone())
        x.fill_(-1)
    assert all(bool((each == 2 * number).all()) for number, each in enumerate(found))


def test_two_programs_add_in_one_order(real):
    """Compiled one after the other, as by a fit that is resumed in another process."""
    index = torch.randint(7, (10**5,), generator=torch.Generator().manual_seed(0)).to(CUDA)
    x = torch.randn(10**5, generator=torch.Generator().manual_seed(1)).to(CUDA)

    def fn(index, x):
        return [x.new_zeros(7).scatter_add(0, index, x), x.sum()]

    torch.use_deterministic_algorithms(True)
    try:
        first, second = (made(fn, [index, x]) for _ in range(2))
        for _ in range(5):
            assert all(map(torch.equal, first(index, x), second(index, x)))
    finally:
        torch.use_deterministic_algorithms(False)
