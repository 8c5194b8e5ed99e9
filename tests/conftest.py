"""Pairs and data that many tests use."""

from __future__ import annotations

import os

# Tensors in tests are small: a second thread costs ten times what it saves, on a busy machine a hundred. Before torch looks.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import matplotlib
import pyro
import pytest
import torch

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


@pytest.fixture
def double():
    """float64 for the time of a test."""
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)
