"""Pairs and data that many tests use."""

from __future__ import annotations

import os
import signal

# Tensors in tests are small: a second thread costs ten times what it saves, on a busy machine a hundred. Before torch looks.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import matplotlib
import pyro
import pytest
import torch

from tests.devices.stand_in import stand_in

matplotlib.use("Agg")


@pytest.fixture(autouse=True)
def nothing_leaks():
    """A test finds, and everything in vbayes leaves, the process as it was: param store, generator, validation."""
    pyro.clear_param_store()
    torch.default_generator.manual_seed(0)  # not torch.manual_seed, which writes down the call stack
    state = torch.get_rng_state()
    yield
    assert len(pyro.get_param_store()) == 0, "the global param store was touched"
    assert torch.equal(torch.get_rng_state(), state), "torch's global generator was touched"
    assert torch.distributions.Distribution._validate_args, "validation was left off"


def pytest_addoption(parser):
    parser.addoption(
        "--device", default=os.environ.get("VBAYES_TEST_DEVICE", "cpu"), choices=("cpu", "cuda", "stand-in"),
        help="where device='auto' is: a CUDA device, or tensors on the CPU that pass for one",
    )  # fmt: skip


def pytest_configure(config):
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # as a shell leaves it to what it puts into the background
        signal.signal(signal.SIGINT, signal.default_int_handler)
    if config.getoption("--device") != "cuda":
        torch.cuda.is_available = lambda: False  # also for fixtures that several tests share


@pytest.fixture(autouse=True)
def on_the_device(request):
    """`device="auto"` is the device that the suite was asked to run on, whatever this machine has."""
    where = "cpu" if request.node.get_closest_marker("on_cpu") else request.config.getoption("--device")
    if where == "stand-in":
        with stand_in():
            yield
        return
    with pytest.MonkeyPatch.context() as patched:  # of its own, as tests undo theirs
        if where == "cpu":
            patched.setattr(torch.cuda, "is_available", lambda: False)
        yield


@pytest.fixture
def double():
    """float64 for the time of a test."""
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


@pytest.fixture
def no_download(tmp_path, monkeypatch):
    """Data come from `VBAYES_DATA` or not at all."""

    def refuse(self, url, output_file, pooch):
        raise AssertionError(f"{url} is not in VBAYES_DATA")

    monkeypatch.setenv("VBAYES_CACHE", str(tmp_path))
    monkeypatch.setattr("pooch.HTTPDownloader.__call__", refuse)


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items):
    """Tests that fork this process come first: what libraries do with threads of their own, once other tests have started these, does not outlive a fork."""
    items.sort(key=lambda item: not {"in_a_child", "in_children"} & set(vars(getattr(item, "module", item))))
