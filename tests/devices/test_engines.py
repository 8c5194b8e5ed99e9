"""The engines that `experiments/performance.py` times on a GPU take their steps there.

Without a card, on tensors that pass for ones on it (`stand_in`); with `--device cuda`, on the card.
"""

import sys
import types
from pathlib import Path

import pytest
import torch

import vbayes as vb
from tests.devices.stand_in import on_cuda

EXPERIMENTS = Path(__file__).parents[2] / "experiments"


@pytest.fixture(autouse=True)
def card(request, monkeypatch):
    monkeypatch.setattr(sys, "path", [str(EXPERIMENTS), *sys.path])
    with on_cuda(request.config.getoption("--device")), vb.seeded(0):
        yield


def leaves(made):
    return [made] if isinstance(made, torch.Tensor) else [t for each in made for t in leaves(each)]


@pytest.mark.parametrize("name", ["eight_schools", "logistic_minibatch", "bnn"])
def test_a_step_of_each(name, request, monkeypatch):
    from engines import by_hand, by_pyro
    from engines.problems import PROBLEMS

    if request.config.getoption("--device") != "cuda":
        monkeypatch.setattr(by_hand, "recorded", lambda *functions, device: list(functions))
    problem = PROBLEMS[name]().on("cuda")
    assert all(column.is_cuda for column in problem.data)
    assert all(value.is_cuda for value in problem.pair().parameters.values())
    for run in (
        by_pyro.pyro_eager(problem), by_pyro.vbayes_svi(problem), by_pyro.vbayes_captured(problem),
        by_pyro.vbayes_loop(problem, device="cuda", compile="torch"), by_hand.by_hand(name, problem, compiled=False),
        by_hand.by_cuda_graph(name, problem),
    ):  # fmt: skip
        made = run(3)
        assert len(made) == 3 and all(value == value for value in made)


def test_many_gradients():
    from engines import by_pyro
    from engines.problems import PROBLEMS

    problem = PROBLEMS["eight_schools"]().on("cuda")
    for made in (by_pyro.vbayes_draws(problem, 70, compiled=True)(), by_pyro.pyro_draws(problem, 1)()):
        assert all(part.is_cuda and part.isfinite().all() for part in leaves(made))


def test_the_rows_of_a_gpu_name_it(monkeypatch):
    import performance

    monkeypatch.setattr(
        performance, "steps", lambda name, *, device, precision="highest", **timed: [{"what": precision, "on": device}]
    )
    monkeypatch.setattr(performance, "draws", lambda name, *, device, **timed: [{"what": "draws", "on": device}])
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: f"a card called {device}")
    monkeypatch.setitem(sys.modules, "numpyro", types.ModuleType("numpyro"))
    table = performance.measure("cuda", ("bnn", "vae"), 1, 0.1, (), (), 1, False)
    assert (
        list(table.what) == ["highest", "highest", "high", "draws"]
        and set(table.on) == {"cuda"}
        and set(table.device) == {"a card called cuda"}
    )
    assert set(performance.measure("cpu", ("vae",), 1, 0.1, (), (), 1, False).device) == {"CPU"}
