"""The state of an optimiser in a file goes by the names of the parameters, whose order may be another one when it is read."""

from __future__ import annotations

import json

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro.infer.autoguide import AutoMultivariateNormal
from safetensors import safe_open

import vbayes as vb
from vbayes.errors import BadInput
from vbayes.training import checksum
from vbayes.training.optimizer import OneOptimizer


def test_parameters_that_stand_in_another_order(tmp_path):
    """An autoguide makes its parameters at its first call, and meets them in another order afterwards: the optimiser's state goes by their names."""

    def model(x):
        z = pyro.sample("z", dist.Normal(torch.zeros(3), 1.0).to_event(1))
        with pyro.plate("data", len(x)):
            pyro.sample("x", dist.Normal(z.sum(), 1.0), obs=x)

    x, guide = torch.linspace(-1, 1, 8), AutoMultivariateNormal(model)
    options = {"seed": 1, "progress": False, "compile": False, "learning_rate": 0.05}
    first = vb.fit(vb.Pair(model, guide), x, "stl", steps=5, **options)
    path = first.save(tmp_path / "fit.safetensors")
    pair = vb.Pair(model, guide)
    again = vb.Fit.load(path, pair, x)
    assert list(again.pair.parameters) != list(first.pair.parameters)
    whole, rest = first.resume(steps=5, progress=False), again.resume(steps=5, progress=False)
    assert all(torch.equal(value, whole.pair.state()[name]) for name, value in rest.pair.state().items())
    twice = vb.Fit.load(rest.save(path), vb.Pair(model, AutoMultivariateNormal(model)), x)  # and back
    assert twice.resume(steps=1, progress=False).rows[-1][2] == whole.resume(steps=1, progress=False).rows[-1][2]


def test_a_file_without_names_goes_by_place(tmp_path):
    """As files did before."""
    pair, x = vb.pairs.normal_normal(), torch.tensor([1.0, 2.0])
    fit = vb.fit(pair, x, "stl", steps=3, compile=False, progress=False)
    path = fit.save(tmp_path / "fit.safetensors")
    with safe_open(path, framework="pt") as file:
        described, tensors = json.loads(file.metadata()["vbayes"]), {key: file.get_tensor(key) for key in file.keys()}
    (state,) = (value for name, value in described["progress"]["dict"] if name == "optimizer")

    def rewritten(names):
        state["dict"] = [each for each in state["dict"] if each[0] != "names"] + names
        checksum.write(tensors, path, json.dumps(described))
        return vb.Fit.load(path, pair, x)

    again = rewritten([])
    assert "names" not in again.progress.optimizer
    assert again.resume(steps=2, progress=False).rows.elbo.tolist() == fit.resume(steps=2, progress=False).rows.elbo.tolist()  # fmt: skip
    for names in ([], ["loc"], ["loc", "loc"], ["loc", 1], "loc"):
        with pytest.raises(BadInput, match="damaged: (.|\n)*the optimiser is of"):
            rewritten([["names", {"list": names} if isinstance(names, list) else names]])


def test_parameters_that_come_late():
    """They have their place in the state like the others."""
    pyro.clear_param_store()
    first, late = (torch.full((n,), 1.0, requires_grad=True) for n in (2, 3))
    optimizer = OneOptimizer({"first": first}, torch.optim.Adam, {"lr": 0.1})
    late = pyro.param("late", late)
    for leaf in (first, late):
        leaf.grad = torch.ones_like(leaf)
    optimizer([first, late])
    state = optimizer.get_state()
    other = OneOptimizer({"late": late, "first": first}, torch.optim.Adam, {"lr": 0.1})
    other.set_state(state)
    assert [len(each["exp_avg"]) for _, each in sorted(other.get_state()["state"].items())] == [3, 2]
    pyro.clear_param_store()
