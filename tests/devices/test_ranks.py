"""What several processes that train together do on cards, seen from one that is alone in its group."""

from contextlib import nullcontext

import pytest
import torch

import vbayes as vb
from tests.devices.stand_in import on_cuda
from tests.models import binary, small_vae
from vbayes.training.ranks import Ranks


@pytest.fixture(autouse=True)
def card(request):
    with on_cuda(request.config.getoption("--device")):
        yield


@pytest.fixture
def alone(monkeypatch):
    """A group of one, in which nobody has to be asked."""
    for name, answer in {"get_rank": 0, "get_world_size": 1, "get_backend": "nccl", "all_reduce": None}.items():
        monkeypatch.setattr(torch.distributed, name, lambda *_, answer=answer: answer)
    monkeypatch.setattr(torch.distributed, "all_gather_object", lambda found, thing: found.__setitem__(0, thing))
    monkeypatch.setattr(torch.distributed, "broadcast_object_list", lambda made, src: None)
    monkeypatch.setattr(torch.cuda, "device", lambda where: nullcontext(where))
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setenv("LOCAL_RANK", "0")
    ranks = Ranks()
    monkeypatch.setattr("vbayes.training.fit.ranks_of", lambda devices: None if devices == 1 else ranks)
    return ranks


@pytest.mark.slow
@pytest.mark.parametrize("compile", [False, True])
@pytest.mark.parametrize("estimator", ["baselined", "iwae"])
def test_a_fit_on_a_card(alone, compile, estimator):
    """Rows, noise, buffers and the sum are all there; and what goes to other processes is on the CPU."""
    how = {"steps": 4, "batch_size": 5, "device": "cuda", "progress": False}
    fit = vb.fit(small_vae(), binary(), estimator, compile=compile, **how)
    assert fit.pair.device.type == fit.data.first.device.type == "cuda" and fit.engine.endswith("1 processes'")
    assert all(value.device.type == "cpu" for value in alone.by_first(fit.pair.state).values())
    one = vb.fit(small_vae(), binary(), estimator, compile=True, devices=1, **how)
    for name, value in one.parameters.items():
        torch.testing.assert_close(fit.parameters[name], value, rtol=0.0, atol=1e-5)
