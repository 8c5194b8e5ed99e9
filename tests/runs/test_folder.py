"""What a run folder says of where its numbers come from."""

from __future__ import annotations

import pytest
import torch

from vbayes.runs.folder import environment


@pytest.fixture
def card(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: f"H200 that is {device}")
    monkeypatch.setattr(torch.version, "cuda", "13.0")


def test_the_processor():
    found = environment(device="cpu", seed=3)
    assert (found["device"], found["seed"], found["deterministic_algorithms"]) == ("cpu", 3, False) and found["jax"]


def test_a_card(card):
    assert environment(device="cuda:1", seed=0)["device"] == "cuda:1: H200 that is cuda:1, CUDA 13.0"
    assert environment(device="auto", seed=0)["device"] == "auto: H200 that is cuda, CUDA 13.0"
    assert environment(device="cpu", seed=0)["device"] == "cpu"


def test_the_precision_of_products():
    """As torch has been told, in its older and in its newer way, after which asking in the older one fails."""
    matmul = torch.backends.cuda.matmul
    try:
        for name in ("highest", "high", "medium"):
            torch.set_float32_matmul_precision(name)
            assert environment(device="cpu", seed=0)["float32_matmul_precision"] == name
        torch.set_float32_matmul_precision("highest")
        matmul.fp32_precision = "tf32"
        assert environment(device="cpu", seed=0)["float32_matmul_precision"] == "tf32"
    finally:
        matmul.fp32_precision = "ieee"
        torch.set_float32_matmul_precision("highest")
