"""Pairs and data that many tests use."""

from __future__ import annotations

import matplotlib
import pyro
import pytest
import torch

matplotlib.use("Agg")


@pytest.fixture(autouse=True)
def nothing_leaks():
    """A test finds, and everything in vbayes leaves, the process as it was: param store, generator, validation."""
    pyro.clear_param_store()
    torch.manual_seed(0)
    state = torch.get_rng_state()
    yield
    assert len(pyro.get_param_store()) == 0, "the global param store was touched"
    assert torch.equal(torch.get_rng_state(), state), "torch's global generator was touched"
    assert torch.distributions.Distribution._validate_args, "validation was left off"


@pytest.fixture
def double():
    """float64 for the time of a test."""
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


@pytest.fixture
def one_thread():
    """Where tensors are small, a second thread costs ten times what it saves."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
